"""Steps of the demo at the tests' size: every configuration takes the same course, and the one it took before.

::

    demo     ZeRO 0, 1, 2 x 1 and 2 ranks x fp32 and bf16, batch 16, plain torch
    small    ZeRO 0, 1, 2 x 1 and 2 ranks, fp32, batch 4, one local crop: plain torch, and fused in Triton's interpreter

Golden curves are of 200 steps each. On every change the demo's first configuration takes all 200, the others in fp32
and the small ones the first ``FEW``; ``SKILL_FAST_LONG=1`` takes 200 of each, bf16 and fused included. After a change
that is meant to change the course: ``SKILL_FAST_GOLDEN=write SKILL_FAST_LONG=1 python -m pytest tests/golden``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.engine.launch import ROOT, environment, free_port

LONG, WRITE = os.environ.get("SKILL_FAST_LONG") == "1", os.environ.get("SKILL_FAST_GOLDEN") == "write"
GOLDEN = Path(__file__).with_name("curves.json")
STEPS, FEW = 200, 200 if LONG else 20
WORLDS, STAGES = (1, 2), (0, 1, 2)
SMALL = [f"small-zero{stage}-fp32" for stage in STAGES]
DEMO = [f"zero{stage}-{precision}" for precision in (("fp32", "bf16") if LONG else ("fp32",)) for stage in STAGES]
NAMES = [f"world {world}, {case}" for world in WORLDS for case in [*DEMO, *SMALL]]
FUSED = [f"world {world}, {case} fused" for world in WORLDS for case in SMALL]
FIRST = {"fp32": "world 1, zero0-fp32", "bf16": "world 1, zero0-bf16", "small": "world 1, small-zero0-fp32"}
ALIKE = {"fp32": 1e-5, "bf16": 0.02, "small": 1e-5}
"""Relative. Stages and ranks sum in other orders: at most 9e-7 in 200 steps in fp32 (small: 1.4e-6), 1.4 % in bf16,
was seen; from fp32 to bf16 it is 2.9 % and more, so that a run in the wrong precision is found."""
AS_BEFORE = {"fp32": 1e-4, "bf16": 0.02, "small": 1e-4}
"""Of the golden curve, which was taken on one kind of CPU: others multiply matrices in another order."""
FUSED_ALIKE = 1e-5
"""Of plain torch's curve of the same run."""


def kind(name: str) -> str:
    return "small" if "small" in name else name.rpartition("-")[2]


def steps_of(name: str) -> int:
    return STEPS if name == FIRST["fp32"] else FEW


def curves(world: int, names: Sequence[str], data: Path, folder: Path) -> dict[str, list[float]]:
    """ "world 1, zero0-fp32" -> losses; one launch of as many processes as ranks takes all that are of this world."""
    worker, start = Path(__file__).with_name("curve_worker.py"), f"world {world}, "
    cases = [f"{name.removeprefix(start)}:{steps_of(name)}" for name in names if name.startswith(start)]
    command = [sys.executable, str(worker), str(data), str(folder), *cases]
    port = free_port()
    ranks = [
        subprocess.Popen(
            command, env=environment(rank, world, port) | {"TRITON_INTERPRET": "1"}, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(world)
    ]  # fmt: skip
    for rank in ranks:
        output, _ = rank.communicate(timeout=900)
        assert rank.returncode == 0, output
    told = json.loads((folder / f"curves-{world}-0.json").read_text())
    return {start + case: losses for case, losses in told.items()}


@pytest.fixture(scope="module")
def taken(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """By name, each number of ranks in one launch: importing DeepSpeed takes seconds."""
    folder, names = tmp_path_factory.mktemp("curves"), [*NAMES, *FUSED]
    found = {name: losses for world in WORLDS for name, losses in curves(world, names, drawn, folder).items()}
    if WRITE:
        assert LONG, "SKILL_FAST_GOLDEN=write needs SKILL_FAST_LONG=1: else most of the curves would be lost"
        GOLDEN.write_text(json.dumps({name: [float(f"{x:.7g}") for x in found[name]] for name in NAMES}))
    return found


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference at any step of the shorter one."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other))


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_takes_the_same_course(taken, name):
    assert len(taken[name]) == steps_of(name)
    assert apart(taken[name], taken[FIRST[kind(name)]]) < ALIKE[kind(name)]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_course_it_took_before(taken, name):
    golden = json.loads(GOLDEN.read_text())
    assert len(golden[name]) == STEPS
    assert apart(taken[name], golden[name]) < AS_BEFORE[kind(name)]


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_kernels_take_it_too(taken, name):
    """Average, loss and center by Triton's interpreter."""
    plain = name.removesuffix(" fused")
    assert len(taken[name]) == len(taken[plain]) == FEW
    assert apart(taken[name], taken[plain]) < FUSED_ALIKE
    assert apart(taken[name], json.loads(GOLDEN.read_text())[plain]) < AS_BEFORE["small"]


def test_precisions_are_told_apart():
    """By the golden curves alone: the tolerance of bf16 is narrower than its distance from fp32."""
    golden = json.loads(GOLDEN.read_text())
    for world in WORLDS:
        for stage in STAGES:
            one, other = (golden[f"world {world}, zero{stage}-{precision}"] for precision in ("bf16", "fp32"))
            assert apart(one, other) > AS_BEFORE["bf16"]


@pytest.mark.parametrize("name", ["world 1, zero0-fp32", "world 1, small-zero0-fp32"])
def test_the_course_is_one(taken, name):
    """The loss moves by more than any tolerance above: a run that stood still would be found."""
    losses = taken[name]
    assert max(losses) - min(losses) > 0.3 and len(set(losses)) > len(losses) // 2
