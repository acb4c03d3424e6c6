"""Every row that a GPU's sweep has, on a toy model and this machine's device, the driver's readings stubbed.

A process of its own, as each measurement is; see test_bench_train.py.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.train import jobs, title
from benchmarks.training import Job, Setting, build_run
from benchmarks.training.__main__ import gate, measure
from skill_fast.engine.optimizer import StepValues
from skill_fast.errors import Failure
from skill_fast.kernels import backend
from skill_fast.telemetry import nvml
from tests.benchmarks import nvml_stub

TOY = Setting(model="toy", batch=4, precision="fp32")


def swept(data: str) -> list[Job]:
    """The jobs of a GPU's sweep with the model made a toy and batches and prefixes small."""
    options = Namespace(
        device="cuda", sweep=[], data=data, seconds=0.0, loader={"threads": 1}, model="toy", batch=4, precision="fp32"
    )
    found = jobs(options)
    small = [replace(job.setting, model="toy", batch=4 if job.setting.batch == 4 else 8) for job in found]
    base = Job(TOY, data, 0.0, {"threads": 1})
    toys = [replace(job, setting=setting) for job, setting in zip(found, small)]
    kept = {title(job, base): job for job in toys if job.loader.get("threads", 1) <= 4}  # no dozen on a small machine
    return list(kept.values())


def measured(job: Job, folder: Path) -> dict[str, Any]:
    backend._chosen = None  # a process measures one setting; here one measures them all
    try:
        return measure(job, folder)
    except Failure as failure:
        return {"can_not": str(failure)}


class _Still:
    """A course on which nothing moves."""

    def __getitem__(self, _step: int) -> StepValues:
        return StepValues(0.0, 0.0, 1.0, 0.04, False, 0.0)


def refused(data: str, folder: Path) -> str:
    """What the gate says of a run whose learning rate is 0."""
    backend._chosen = None
    _, run = build_run(TOY, data, folder, {"threads": 1})
    run.course = _Still()  # type: ignore[assignment]
    with run:
        try:
            gate(run, iter(run.loader))
        except AssertionError as failed:
            return str(failed)
    return ""


def main(data: str, folder: Path) -> None:
    nvml.pynvml = nvml_stub
    todo = swept(data)
    told = {title(job, todo[0]): measured(job, folder / str(n)) for n, job in enumerate(todo)}
    (folder / "told.json").write_text(json.dumps({"rows": told, "refused": refused(data, folder / "still")}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)
