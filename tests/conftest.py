"""What the tests of whole commands share: a small drawn data set and train.py as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from shards.build import build
from tests.engine.launch import free_port
from tests.object_storage import s3, s3_server  # noqa: F401  # fixtures, for every test below

# The clock says how busy the machine is, not whether a property holds: Hypothesis's 200 ms an example are no test here.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

ROOT = Path(__file__).parents[1]
TINY = [
    *(
        "--backbone.image-size",
        "32",
        "--backbone.embed-dim",
        "24",
        "--backbone.depth",
        "1",
        "--backbone.num-heads",
        "2",
    ),
    *("--head.prototypes", "33", "--head.hidden", "24", "--head.bottleneck", "8", "--views.local-size", "16"),
    *("--log-every", "1", "--no-evaluate"),
]
"""Options that make the demo preset a toy: a step takes milliseconds, everything around it is real."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a test marked slow come first: begun last, one would keep a process busy after all others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Shards of 24 drawn designs in 3 or 4 colours each, two fifths held out."""
    folder = tmp_path_factory.mktemp("drawn") / "shards"
    build("demo", folder, format="demo", designs=24, photo_side=40, max_side=40, seed=1, workers=0)
    return folder


class Trainer:
    """train.py, started as a user would."""

    def __init__(self, data: Path | str) -> None:
        self.data = data

    def command(
        self, out: Path, *options: str, ds_config: str = "zero2", ranks: int = 0, toy: bool = True
    ) -> list[str]:
        """ranks 0: plain python; else the deepspeed launcher. toy: with the options ``TINY``."""
        script = [str(ROOT / "skill_fast" / "train.py"), "--ds_config", str(ROOT / "ds_configs" / f"{ds_config}.json")]
        start = [sys.executable]
        if ranks:
            deepspeed = str(Path(sys.executable).with_name("deepspeed"))
            start = [sys.executable, deepspeed, "--master_port", str(free_port()), "--num_accelerators", str(ranks)]
        return [*start, *script, "--data", str(self.data), "--out", str(out), *(TINY if toy else ()), *options]

    def environment(self, threads: int) -> dict[str, str]:
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
        }
        return inherited | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}

    def start(self, out: Path, *options: str, threads: int = 1, **how) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(out, *options, **how),
            env=self.environment(threads),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, out: Path, *options: str, code: int = 0, **how) -> str:
        """Run to the end; the output, after checking the exit code."""
        process = self.start(out, *options, **how)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == code, output
        return output


@pytest.fixture(scope="session")
def trainer(drawn) -> Trainer:
    return Trainer(drawn)


def metrics(run: Path) -> list[dict]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
