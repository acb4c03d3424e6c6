"""The run folder: what stands in it, when it may be written into, and how a run ended."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from skill_fast.errors import BadUsage, Failure

OURS = ("config.yaml", "checkpoints", "metrics.jsonl", "exit.json")
# Neither the weights nor the batches depend on these, so a run may be resumed with others.
FREE = (
    *("out", "data", "log_every", "checkpoint_every", "watch_every", "watch_products", "cache"),
    *("evaluate", "evaluate_every", "evaluate_tasks", "evaluate_products"),
)
FREE_LOADER = (
    "calibrate",
    "threads",
    "prefetch",
    "hw_decoder_load",
    "max_skipped_in_a_row",
    "max_skipped_share",
    "skipped_judged_after",
    "stuck_after_s",
)
FREE_DS_CONFIG = ("tensorboard", "wandb", "comet", "csv_monitor", "steps_per_print", "wall_clock_breakdown")


class RunFolder:
    """Paths of a run, and its beginning and end. Only rank 0 writes."""

    def __init__(self, path: str | Path, rank: int) -> None:
        self.path = Path(path)
        self.rank = rank
        self._begun = False

    @property
    def skipped_path(self) -> Path:
        """Photographs that this rank had to substitute, one JSON object a line."""
        return self.path / ("skipped.jsonl" if self.rank == 0 else f"skipped.rank-{self.rank}.jsonl")

    @property
    def not_finite_path(self) -> Path:
        """Steps that this rank skipped for non-finite gradients, and their products, one JSON object a line."""
        return self.path / ("not_finite.jsonl" if self.rank == 0 else f"not_finite.rank-{self.rank}.jsonl")

    def check(self) -> None:
        """Raise BadUsage when the folder holds something that is no run; nothing is written yet."""
        held = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        if held and not any(name in held for name in OURS):
            raise BadUsage(
                f"'{self.path}' is not a run folder: it holds {', '.join(held[:4])}",
                allowed="a new or empty folder, or the folder of an earlier start of this run",
                change="--out",
            )

    def open(self, *, fresh: bool) -> None:
        """Make the folder, or take the one of an earlier start of the same run; ``fresh`` throws that one away."""
        if self.rank == 0:
            if fresh and self.path.is_dir():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        """From here on exit.json is this start's: before, a refused start leaves an earlier one's word alone."""
        self._begun = True
        if self.rank == 0:
            (self.path / "exit.json").unlink(missing_ok=True)

    def close(self, code: int, reason: str, step: int) -> None:
        """Write exit.json: launchers replace exit codes by their own, this file keeps what happened."""
        if self.rank == 0 and self._begun:
            temporary = self.path / "exit.json.tmp"
            text = json.dumps({"exit_code": code, "reason": reason, "step": step}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
            os.replace(temporary, self.path / "exit.json")

    def fail(self, error: BaseException, step: int) -> None:
        """Write exit.json for an exception that ends the run."""
        code = error.exit_code if isinstance(error, Failure) else 130 if isinstance(error, KeyboardInterrupt) else 1
        self.close(code, f"{type(error).__name__}: {error}", step)


def what_must_not_change(config: dict[str, Any], ds_config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a resumed run must share with the run that wrote the checkpoint."""
    kept = {key: value for key, value in config.items() if key not in FREE}
    kept["loader"] = {key: value for key, value in config["loader"].items() if key not in FREE_LOADER}
    kept.pop("demo")  # the dataset's fingerprint says it
    kept["ds_config"] = {key: value for key, value in ds_config.items() if key not in FREE_DS_CONFIG}
    return kept
