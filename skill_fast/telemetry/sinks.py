"""Where a run's numbers go: metrics.jsonl, TensorBoard events and a line that a person reads."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from skill_fast.telemetry.clock import Clock
from skill_fast.telemetry.throughput import Throughput, clock_text


class StepValues(Protocol):
    """The schedules' values of one step, as ``engine.optimizer`` has them."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def ema_momentum(self) -> float: ...


class MetricsFile:
    """``metrics.jsonl``: one JSON object a logged step, in order of steps, on the disk's side of a flush."""

    def __init__(self, path: str | Path, resumed_step: int = 0) -> None:
        self.path = Path(path)
        truncate_after(self.path, resumed_step)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row, which has "step"; nan and infinities are written as null: JSON has no word for them."""
        self._file.write(json.dumps({name: _finite(value) for name, value in row.items()}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def truncate_after(path: Path, step: int) -> None:
    """Drop the lines of steps after ``step``, and a last line cut short by a crash.

    A run killed after its last checkpoint has logged steps that the resumed run takes again: without them the file
    equals an unbroken run's. Rewritten beside and renamed, so that a crash here loses nothing.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not line.endswith("\n") or not isinstance(row, dict) or row.get("step", math.inf) > step:
            break
        kept.append(line)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, path)


class TensorBoard:
    """Event files in a folder; after a resume, steps beyond it are purged by TensorBoard itself.

    "evaluation/..." stands at the step whose teacher was evaluated ("evaluation/step"), not at the one that logs it.
    """

    def __init__(self, folder: str | Path, resumed_step: int = 0) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tensorboard's own imports warn about their dependencies
            from torch.utils.tensorboard import SummaryWriter  # half a second that a run without it need not pay
        self._writer = SummaryWriter(str(folder), purge_step=resumed_step + 1 if resumed_step else None)

    def write(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "epoch", "evaluation/step"):
                at = row["evaluation/step"] if name.startswith("evaluation/") else row["step"]
                self._writer.add_scalar(name, value, int(at))

    def close(self) -> None:
        self._writer.close()


class ProgressLine:
    """Step, loss, teacher entropy, products/s, data wait and time left: one line that updates on a terminal.

    Elsewhere (a log file, a pipe) a plain line every ``every_s`` seconds, and always the first and the last step's.
    """

    def __init__(self, total_steps: int, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self.total_steps, self.every_s = total_steps, every_s
        self._stream = stream if stream is not None else sys.stderr
        self._printed_s = -math.inf
        self._live: Live | None = None
        if self._stream.isatty():
            self._live = Live(Text(""), console=Console(file=self._stream), refresh_per_second=4, transient=False)
            self._live.start()

    def show(self, row: Mapping[str, Any], left_s: float | None, data_wait_share: float) -> None:
        line = progress_text(row, self.total_steps, left_s, data_wait_share)
        if self._live is not None:
            self._live.update(Text(line))
        elif time.monotonic() - self._printed_s >= self.every_s or row["step"] >= self.total_steps:
            self._printed_s = time.monotonic()
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_text(row: Mapping[str, Any], total_steps: int, left_s: float | None, data_wait_share: float) -> str:
    """``step  120/1380  loss 5.211  entropy 3.020  412 products/s  wait 3%  left 4:10``: it fits 80 columns.

    entropy: of the teacher's outputs, in nats. wait: share of the step time spent waiting for data.
    """
    width = len(str(total_steps))
    parts = [f"step {row['step']:>{width}}/{total_steps}"]
    for name, label in (("loss", "loss"), ("teacher_entropy", "entropy")):
        if name in row:
            parts.append(f"{label} {row[name]:.3f}")
    parts += [f"rank {row['watch/rank']:.0f}"] if "watch/rank" in row else []
    parts.append(f"{row['products_per_s']:.0f} products/s")
    parts.append(f"wait {100 * data_wait_share:.0f}%")
    parts.append(f"left {clock_text(left_s)}")
    return "  ".join(parts)


class Sinks:
    """All of them behind one call; only rank 0 makes one, the others pass ``run_folder=None`` and stay silent.

    steps_per_epoch: to name the epoch. resumed_step: what was logged beyond it is dropped.
    """

    def __init__(
        self,
        run_folder: str | Path | None,
        *,
        total_steps: int,
        steps_per_epoch: int,
        global_batch: int,
        resumed_step: int = 0,
        tensorboard: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.throughput = Throughput(total_steps, global_batch)
        self.throughput.mark(resumed_step)
        self._writers: list[MetricsFile | TensorBoard] = []
        self._line: ProgressLine | None = None
        if run_folder is not None:
            self._writers.append(MetricsFile(Path(run_folder) / "metrics.jsonl", resumed_step))
            if tensorboard:
                self._writers.append(TensorBoard(Path(run_folder) / "tensorboard", resumed_step))
            self._line = ProgressLine(total_steps, stream)

    def log(self, step: int, values: StepValues, logged: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
        """Fetch device tensors (under ``sync:metrics`` of the clock), write a row everywhere and return it.

        step: steps done. logged: loss, teacher_entropy, kl, grad_norm ..., numbers or tensors of one element.
        """
        fetched: dict[str, float] = {}
        clock.sync("metrics", lambda: fetched.update((name, float(value)) for name, value in logged.items()))
        self.throughput.mark(step)
        row = {
            "step": step,
            "epoch": (step - 1) // self.steps_per_epoch,
            **fetched,
            "lr": values.lr,
            "weight_decay": values.weight_decay,
            "ema_momentum": values.ema_momentum,
            "step_ms": clock.step_ms,
            "data_wait_ms": clock.phase_ms("data_wait"),
            "products_per_s": self.throughput.products_per_s,
        }
        for writer in self._writers:
            writer.write(row)
        if self._line is not None:
            self._line.show(row, self.throughput.left_s, clock.share("data_wait"))
        return row

    def close(self) -> None:
        """Flush and close; the progress line is left standing."""
        for writer in self._writers:
            writer.close()
        if self._line is not None:
            self._line.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
