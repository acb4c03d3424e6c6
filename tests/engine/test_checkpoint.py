"""A checkpoint is whole or absent: resumed runs equal unbroken ones bit for bit, and no damage passes in silence."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from skill_fast.engine.manifest import Manifest, check_folder, differences
from skill_fast.engine.storage import hash_file
from tests.engine.launch import launch

CASES = ["zero0-fp32", "zero0-bf16", "zero1-bf16", "zero2-bf16", "zero2-fp32", "zero2-bf16-offload"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """World size -> [rank]: the reports of checkpoint_worker.py; world 1 also tries a checkpoint of world 2."""
    found = {}
    two = tmp_path_factory.mktemp("two")
    for world in (2, 1):
        folder = two if world == 2 else tmp_path_factory.mktemp("one")
        for rank, done in enumerate(launch("checkpoint_worker.py", world, str(folder), str(two / "3"))):
            assert done.returncode == 0, f"rank {rank} of {world}:\n{done.stdout}"
        found[world] = [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(world)]
    return found


@pytest.fixture(scope="module")
def damaged(told: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    return told[1][0]["damaged"]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(told: dict, world: int, case: str) -> None:
    for rank in told[world]:
        report = next(report for report in rank["exact"] if report["name"] == case)
        assert report["losses_equal"] and report["weights_equal"] and report["center_equal"]
        assert report["plain"] == [{"epoch": 1, "step": 3}, 3]


@pytest.mark.parametrize("world", [1, 2])
def test_what_a_checkpoint_holds(told: dict, world: int) -> None:
    for report in told[world][0]["exact"]:
        assert report["pointer"] == "step-000003"
        assert not report["latest"]  # DeepSpeed's own pointer, which it writes too early
        for rank in range(world):
            assert f"teacher/rank-{rank:05d}.safetensors" in report["files"]
            assert f"state/rank-{rank:05d}.json" in report["files"]
        assert "manifest.json" in report["files"]


def test_two_are_kept(damaged: dict) -> None:
    assert damaged["kept"] == ["newest", "step-000002", "step-000003"]
    assert damaged["nothing"] == {"step": 3, "raised": None, "stderr": ""}


def test_every_damage_to_a_file_is_found_named_and_stepped_over(damaged: dict) -> None:
    cases = [name for name in damaged if name.startswith(("flip:", "cut:", "missing:")) or name == "empty folder"]
    assert len(cases) == 15
    reasons = {
        "flip": "sha256",
        "cut": "bytes, not",
        "missing": "is missing",
        "empty folder": "manifest.json is missing",
    }
    for name in cases:
        kind, _, file = name.partition(":")
        report = damaged[name]
        assert report["step"] == 2, name
        assert "step-000003 is skipped" in report["stderr"] and file in report["stderr"], name
        assert reasons[kind] in report["stderr"] or file == "manifest.json", name


@pytest.mark.parametrize("name", ["missing", "wrong", "older", "garbage"])
def test_a_wrong_pointer_is_told_and_does_not_matter(damaged: dict, name: str) -> None:
    report = damaged[f"pointer:{name}"]
    assert report["step"] == 3
    assert "newest" in report["stderr"] and "step-000003" in report["stderr"]


def test_never_a_silent_start_from_scratch(damaged: dict) -> None:
    assert damaged["both"]["raised"] == "BadData"
    for part in ("step-000003", "step-000002", "sha256", "bytes, not", "--out"):
        assert part in damaged["both"]["message"]
    assert damaged["all gone but the pointer"]["raised"] == "BadData"


def test_a_run_without_checkpoints_starts(damaged: dict) -> None:
    assert damaged["no checkpoints"] == {"step": None, "raised": None, "stderr": ""}
    assert damaged["unfinished"]["raised"] is None
    assert "never finished" in damaged["unfinished"]["stderr"]


def test_another_configuration_is_refused_with_the_difference(damaged: dict) -> None:
    report = damaged["changed config"]
    assert report["raised"] == "BadUsage"
    assert 'method.name: "skill" -> "dino"' in report["message"] and "new: (none) -> true" in report["message"]
    assert "momentum" not in report["message"]
    assert damaged["same config, tuples for lists"]["step"] == 3
    allowed = damaged["changed config, allowed"]
    assert allowed["step"] == 3 and 'method.name: "skill" -> "dino"' in allowed["stderr"]


def test_another_dataset_is_refused(damaged: dict) -> None:
    assert damaged["changed dataset"]["raised"] == "BadUsage"
    assert "dataset: abc -> def" in damaged["changed dataset"]["message"]


def test_another_number_of_ranks_is_refused(told: dict) -> None:
    report = told[1][0]["other world size"]
    assert report["raised"] == "BadUsage"
    assert "is of 2 rank(s), this run has 1" in report["message"]


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(damaged: dict) -> None:
    resumed, after = damaged["repaired"]
    assert resumed == 2
    assert after == {"step": 3, "raised": None, "stderr": ""}


@pytest.mark.parametrize("where", ["deepspeed", "state"])
def test_a_full_disk_is_a_storage_failure_and_the_old_one_stays(damaged: dict, where: str) -> None:
    report = damaged[f"full disk: {where}"]
    assert report["raised"] == "StorageFailure"
    assert "checkpoints'" in report["message"] and "bytes free" in report["message"]
    assert damaged[f"after full disk: {where}"]["step"] == 1


def test_kill_9_anywhere_in_a_save_leaves_a_checkpoint_to_resume(tmp_path: Path) -> None:
    (done,) = launch("kill_worker.py", 1, str(tmp_path))
    assert done.returncode == 0, done.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["points"] > 15
    assert told["statuses"] == [9] * told["points"] + [0]  # every one but the last died by SIGKILL
    assert told["first"] == [9, 0] * 3
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    steps = [entry["resumed"] for entry in seen[: told["points"] + 1]]
    assert steps[0] == 3
    # Each attempt starts at the step the last one tried to save (it was whole) or at the one before (it was not).
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(steps))
    assert steps[-1] > 3 and steps.count(3) > 8  # both kinds occurred
    weights = {}
    for entry in seen[: told["points"] + 1]:
        assert weights.setdefault(entry["resumed"], entry["teacher"]) == entry["teacher"]
        assert 2 <= entry["kept"] <= 3


def test_a_manifest_altered_but_still_json_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"payload")
    manifest = Manifest(7, 1, "layout", "dataset", {"lr": 0.1}, {"data": hash_file(tmp_path / "data")})
    text = manifest.to_text()
    (tmp_path / "manifest.json").write_text(text)
    assert check_folder(tmp_path) == (manifest, [])
    (tmp_path / "manifest.json").write_text(text.replace('"step": 7', '"step": 8'))
    assert check_folder(tmp_path) == (None, ["manifest.json does not match its own sha256"])
    (tmp_path / "manifest.json").write_text("[]")
    assert check_folder(tmp_path)[0] is None
    shutil.rmtree(tmp_path)
    assert "never finished" in check_folder(tmp_path)[1][0]


def test_differences_are_by_dotted_key() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None, "gone": 0}
    new = {"a": {"b": 1, "c": (1, 3)}, "d": None, "e": {}}
    assert differences(old, new) == ["a.c: [1, 2] -> [1, 3]", "e: (none) -> {}", "gone: 0 -> (none)"]
    assert differences(old, old) == []
