"""The engine against AdamW written out, on every stage; how it starts, and what it says while it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.launch import ROOT, environment, free_port, launch

CASES = ["zero0-fp32", "zero1-fp32", "zero2-fp32", "zero0-bf16", "zero2-bf16"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("engine")
    (done,) = launch("engine_worker.py", 1, str(folder))
    assert done.returncode == 0, done.stdout
    noise = [line for line in done.stdout.splitlines() if "OVERFLOW! Skipping step" not in line]
    return json.loads((folder / "told.json").read_text()) | {"noise": noise}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_adamw_with_clipping_and_decay_where_it_belongs(told: dict[str, Any], case: str) -> None:
    # Adam divides by the root of a mean of squares: an early step turns a relative error of 1e-6 in a gradient near
    # zero into a visible part of lr = 1e-2. In bf16 weights and gradients have 8 bits: 5 steps of lr and rounding.
    assert told[case]["error"] < (2e-5 if case.endswith("fp32") else 5 * 1e-2)
    assert told[case]["norms"] == pytest.approx(told["zero0-fp32"]["norms"], rel=1e-5 if "fp32" in case else 5e-2)
    assert max(told[case]["norms"]) > 0.5  # clipping took place


@pytest.mark.parametrize("case", CASES)
def test_the_last_layer_can_be_held_still(told: dict[str, Any], case: str) -> None:
    assert told[case]["frozen"] == [False, True]
    assert told[case]["thawed"] == [True, True]
    assert told[case]["groups"] == [["decay", 0.3, 0.2], ["no_decay", 0.3, 0.0], ["last_layer", 0.3, 0.2]]


@pytest.mark.parametrize("case", CASES)
def test_a_nan_step_moves_nothing_and_says_so(told: dict[str, Any], case: str) -> None:
    assert told[case]["applied"] == [False, True]
    assert told[case]["untouched_by_nan"] and told[case]["finite_after"]


def test_what_deepspeed_refuses_is_bad_usage(told: dict[str, Any]) -> None:
    refusals = told["refusals"]
    assert "overlap_com" in refusals["unknown zero key"] and "ds_config owns" in refusals["unknown zero key"]
    assert "stage 3" in refusals["stage 3"]
    assert "does not divide" in refusals["batch"]
    assert "fp16, which this cpu can not" in refusals["fp16 on a cpu"]


def test_fp16_that_can_not_lower_its_scale_ends_with_5(told: dict[str, Any]) -> None:
    """C7: DeepSpeed's own exception there is a bare one."""
    ended = told["fp16 at its floor"]
    assert ended["exit_code"] == 5 and ended["untouched"] and "loss scale already at minimum" in ended["said"]


def test_it_starts_without_a_word(told: dict[str, Any]) -> None:
    assert told["noise"] == []


def test_it_starts_under_the_deepspeed_launcher(tmp_path: Path) -> None:
    launcher = Path(sys.executable).with_name("deepspeed")
    worker = str(ROOT / "tests/engine/engine_worker.py")
    command = [
        str(launcher),
        "--num_accelerators",
        "2",
        "--master_port",
        str(free_port()),
        worker,
        str(tmp_path / "hello"),
    ]
    env = environment() | {"PATH": f"{launcher.parent}:{environment()['PATH']}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads((tmp_path / f"hello-{rank}").read_text()) for rank in (0, 1)]
    assert found == [[0, 2, "cpu"], [1, 2, "cpu"]]
