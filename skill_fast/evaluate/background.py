"""Evaluation while a run trains: a snapshot of the teacher, scored by a process of its own at a low priority.

::

    RUN/evaluations/step-000100/        model.json, teacher.safetensors, evaluation.json while it lasts
    RUN/evaluations/step-000100.json    the result, as skill-eval writes it
    RUN/evaluations/step-000100.log     what the process said, kept where it failed

The step pays for copying the teacher's weights to the host. A failed evaluation is a line on stderr; an evaluation
that still runs when the next one is due lets that one fall out, and ends when the run ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skill_fast.data.cache_config import CacheConfig, add_cache_options, cache_config
from skill_fast.data.index import open_index
from skill_fast.errors import exit_with
from skill_fast.evaluate.suite import evaluate, write_json
from skill_fast.models.encoder import load_encoder, save_teacher

START = "import os, sys; os.nice(10); from skill_fast.evaluate.background import main; sys.exit(main(sys.argv[1:]))"
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
COUNTS = ("queries", "bank", "gallery", "classes", "train", "test", "products", "groups")
"""Parts of a result that are no curves."""
LOOK_FOR_PARENT_S = 0.5


class BackgroundEvaluation:
    """Called on rank 0 at logged steps: takes finished figures and starts the next evaluation when one is due."""

    def __init__(self, run: Path, data: str, *, tasks: Sequence[str], products: int, cache: CacheConfig) -> None:
        self.folder = run / "evaluations"
        self._options = ["--data", data, "--tasks", ",".join(tasks), "--products", str(products)]
        self._options += ["--cache-dir", cache.dir, "--cache-gib", str(cache.gib)]
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._figures: dict[str, float] = {}
        self._warning = ""
        self._step, self._told = 0, False
        self._ended = False

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, step: int, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Evaluate these weights of a teacher in the background; nothing of it raises here."""
        if self.running:
            if not self._told:
                print(f"step {step}: not evaluated, that of step {self._step} still runs", file=sys.stderr)
            self._told = True
            return
        self._step, self._told = step, False
        self._thread = threading.Thread(target=self._guarded, args=(step, weights, about), daemon=True)
        self._thread.start()

    def finished(self) -> dict[str, float]:
        """Figures of an evaluation that has ended since the last call, often none; says it when one failed."""
        if self.running:
            return {}
        if self._warning:
            print(f"warning: the evaluation of step {self._step} failed: {self._warning}", file=sys.stderr)
        found, self._figures, self._warning = self._figures, {}, ""
        return found

    def close(self) -> None:
        """End what still runs, and say so."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
            print(f"the evaluation of step {self._step} was still running and is ended with the run", file=sys.stderr)

    def _guarded(self, step: int, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        snapshot = self.folder / f"step-{step:06d}"
        try:
            self._figures = self._evaluate(snapshot, weights, about) | {"evaluation/step": float(step)}
        except Exception as error:  # whatever it is, it must not end the run
            self._figures, self._warning = {}, str(error)
        shutil.rmtree(snapshot, ignore_errors=True)

    def _evaluate(self, snapshot: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> dict[str, float]:
        for left in self.folder.glob("step-*/"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        snapshot.mkdir(parents=True)
        save_teacher(snapshot, weights, about)
        log = snapshot.with_suffix(".log")
        with log.open("wb") as output:
            command = [sys.executable, "-P", "-c", START, str(snapshot), "--parent", str(os.getpid()), *self._options]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment()
            )
        if self._ended:
            self._process.kill()
        if code := self._process.wait():
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            said = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "no word")
            raise RuntimeError(f"{said} (exit code {code}; {log})")
        log.unlink()
        os.replace(snapshot / "evaluation.json", snapshot.with_suffix(".json"))
        return curves(json.loads(snapshot.with_suffix(".json").read_text(encoding="utf-8")))


class EvaluationEvery:
    """A look of the training loop: every ``every`` steps, at the next logged one, the teacher is handed over.

    Called on all ranks, which hold the teacher together; ``evaluation`` is rank 0's and None elsewhere.
    """

    def __init__(
        self,
        evaluation: BackgroundEvaluation | None,
        *,
        every: int,
        log_every: int,
        weights: Callable[[], Mapping[str, Tensor]],
        about: Callable[[int], Mapping[str, Any]],
    ) -> None:
        self._evaluation, self._every, self._log_every = evaluation, every, log_every
        self._weights, self._about = weights, about

    def __call__(self, step: int) -> Mapping[str, float]:
        figures = self._evaluation.finished() if self._evaluation else {}
        if step % self._every < self._log_every:
            weights = self._weights()
            if self._evaluation:
                self._evaluation.start(step, weights, self._about(step))
        return figures

    def close(self) -> None:
        if self._evaluation:
            self._evaluation.close()


def curves(result: Mapping[str, Any]) -> dict[str, float]:
    """evaluation/NAME -> value of the trained encoder's scores, without counts and ends of intervals."""
    scores: Mapping[str, float] = result["rows"]["trained"]
    return {
        f"evaluation/{name}": float(value)
        for name, value in scores.items()
        if name.split("/")[-1] not in COUNTS and not name.endswith(("_low", "_high"))
    }


def environment() -> dict[str, str]:
    """Of the evaluating process: this package, no GPU, no launcher, one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def main(arguments: Sequence[str]) -> int:
    """Score one snapshot into SNAPSHOT/evaluation.json; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--products", type=int, required=True)
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with, args=(options.parent,), daemon=True).start()
    torch.set_num_threads(1)
    encoders = {"trained": load_encoder(options.snapshot)}
    index = open_index(options.data, cache_config(options))
    tasks = options.tasks.split(",")
    result = evaluate(encoders, index, tasks, at_most=options.products, device="cpu", threads=1)
    write_json(options.snapshot / "evaluation.json", result)


def _end_with(parent: int) -> None:
    """End this process once its parent is gone, by SIGKILL too."""
    while os.getppid() == parent:
        time.sleep(LOOK_FOR_PARENT_S)
    os._exit(1)
