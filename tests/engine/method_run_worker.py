"""Runs every method through train.py in one process: 60 steps, and again the last 20 from the checkpoint of step 40.

Started by tests/methods/test_runs.py with the data set, a folder and the ds_config.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from skill_fast import train as command
from skill_fast.methods import METHODS
from tests.conftest import TINY


def train(name: str, data: str, out: Path, ds_config: str) -> None:
    options = ["--preset", f"{name}_demo", "--ds_config", ds_config, "--data", data, "--out", str(out)]
    sizes = ["--steps", "60", "--log-every", "10", "--checkpoint-every", "40", "--watch-every", "30"]
    sizes += ["--mocov2.queue", "64", "--pbcnet.queue", "64", "--watch-products", "16"]
    code = command.main([*options, *TINY, *sizes])
    assert code == 0, f"{name}: exit code {code}"


def stay() -> None:
    """Instead of leaving the process group: DeepSpeed 0.19.8 can not join a second one in the same process."""


def run(data: str, folder: Path, ds_config: str) -> None:
    command.leave = stay
    for name in METHODS:
        whole, resumed = folder / name, folder / f"{name}-resumed"
        train(name, data, whole, ds_config)
        shutil.copytree(whole, resumed)
        shutil.rmtree(resumed / "checkpoints" / "step-000060")
        (resumed / "teacher.safetensors").unlink()
        train(name, data, resumed, ds_config)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
