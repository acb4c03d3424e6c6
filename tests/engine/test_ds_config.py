"""Every ds_config that ships is sound, and every mistake is refused with the key to change and its owner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_fast.engine.ds_config import batch_layout, load_ds_config, precision_of, stage_of
from skill_fast.errors import BadUsage

SHIPPED = sorted((Path(__file__).parents[2] / "ds_configs").glob("*.json"))
GOOD: dict[str, Any] = {"train_batch_size": 64, "zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}


def refused(tmp_path: Path, text: str | dict[str, Any]) -> BadUsage:
    path = tmp_path / "ds.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(BadUsage) as caught:
        load_ds_config(path)
    assert str(path) in caught.value.came and caught.value.allowed
    return caught.value


def test_what_ships() -> None:
    names = ["zero0", "zero1", "zero2", "zero2_offload"]
    fp32 = ["zero0_fp32.json", "zero2_fp32.json"]
    assert [path.name for path in SHIPPED] == sorted([f"{n}{p}.json" for n in names for p in ("", "_fp16")] + fp32)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_sound(path: Path) -> None:
    config = load_ds_config(path)
    stem = path.stem
    assert stage_of(config) == int(stem[4])
    assert precision_of(config) == ("fp16" if "fp16" in stem else "fp32" if "fp32" in stem else "bf16")
    assert ("offload_optimizer" in config["zero_optimization"]) == ("offload" in stem)
    assert config["train_batch_size"] == 64 and config["gradient_clipping"] == 3.0
    assert config["gradient_accumulation_steps"] == 1
    assert not config["zero_optimization"].get("overlap_comm", False)
    assert batch_layout(config, 2) == (64, 32, 1)


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "zero2.json").write_text(json.dumps(GOOD))
    with pytest.raises(BadUsage) as caught:
        load_ds_config(tmp_path / "zero3.json")
    assert "zero2.json" in caught.value.allowed and "--ds_config" in caught.value.change
    with pytest.raises(BadUsage):
        load_ds_config(tmp_path)
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(BadUsage):
        load_ds_config(tmp_path / "latin")


def test_bad_json_names_the_line(tmp_path: Path) -> None:
    failure = refused(tmp_path, '{\n  "train_batch_size": 64,\n  "bf16": {"enabled": yes}\n}')
    assert "line 3" in failure.came and '"bf16": {"enabled": yes}' in failure.change
    assert "line 1" in refused(tmp_path, "").came
    assert "list" in refused(tmp_path, "[1]").came
    assert "twice" in refused(tmp_path, '{"bf16": {}, "bf16": {}}').came


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": {"type": "AdamW"}}, ['"optimizer"', "configuration owns"]),
        ({"scheduler": {"type": "WarmupLR"}}, ['"scheduler"', "configuration owns"]),
        ({"torch_autocast": {"enabled": True}}, ['"torch_autocast"']),
        ({"zero_optimisation": {"stage": 1}}, ['"zero_optimisation"', '"zero_optimization"']),
        ({"gradient_cliping": 1.0}, ['"gradient_cliping"', '"gradient_clipping"']),
        ({"gradient_clipping": "auto"}, ['"gradient_clipping" is "auto"', "ds_config owns"]),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}}, ["zero_optimization.reduce_bucket_size"]),
        ({"comms_logger": {"prof_ops": ["all_reduce", " AUTO "]}}, ["comms_logger.prof_ops[1]"]),
        ({"train_batch_size": 0}, ["train_batch_size", "ds_config owns"]),
        ({"train_batch_size": "64"}, ["train_batch_size", "'64'"]),
        ({"train_batch_size": True}, ["train_batch_size"]),
        ({"gradient_accumulation_steps": 1.5}, ["gradient_accumulation_steps"]),
        ({"train_micro_batch_size_per_gpu": -1}, ["train_micro_batch_size_per_gpu"]),
        ({"zero_optimization": {"stage": 3}}, ["stage", "is 3", "teacher"]),
        ({"zero_optimization": {"stage": "2"}}, ["'2'", "0, 1 or 2"]),
        ({"zero_optimization": 2}, ['"zero_optimization" is 2']),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, ["offload_param"]),
        ({"zero_optimization": {"stage": 2, "zenflow": {}}}, ["zenflow"]),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}}, ["'nvme'"]),
        ({"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}}, ["stage 0"]),
        ({"fp16": {"enabled": True}}, ["both bf16 and fp16"]),
        ({"bf16": True}, ['"bf16" is True']),
        ({"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}, ["bf16_master_weights_and_grads", "fp32"]),
        (
            {"zero_optimization": {"stage": 1}, "data_types": {"grad_accum_dtype": "fp32"}},
            ["grad_accum_dtype", "stage 1"],
        ),
    ],
)
def test_mistakes_are_refused_by_name(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    failure = refused(tmp_path, GOOD | change)
    assert failure.change
    for word in words:
        assert word in str(failure)


def test_the_global_batch_must_be_given(tmp_path: Path) -> None:
    failure = refused(tmp_path, {"train_micro_batch_size_per_gpu": 8})
    assert 'no "train_batch_size"' in failure.came and "ds_config owns" in failure.change


@given(world=st.integers(1, 9), steps=st.integers(1, 5), micro=st.integers(1, 40), given_micro=st.booleans())
def test_layout_multiplies_back(world: int, steps: int, micro: int, given_micro: bool) -> None:
    config = {"train_batch_size": world * steps * micro, "gradient_accumulation_steps": steps}
    if given_micro:
        config["train_micro_batch_size_per_gpu"] = micro
    assert batch_layout(config, world) == (world * steps * micro, micro, steps)
    if given_micro:
        del config["gradient_accumulation_steps"]
        assert batch_layout(config, world) == (world * steps * micro, micro, steps)


@pytest.mark.parametrize(
    ("config", "world", "words"),
    [
        ({"train_batch_size": 64}, 3, ["3 ranks", "63 or 66", "ds_config owns"]),
        ({"train_batch_size": 10, "gradient_accumulation_steps": 4}, 1, ["gradient_accumulation_steps 4", "8 or 12"]),
        ({"train_batch_size": 2}, 4, ['"train_batch_size": 4']),
        (
            {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 16, "gradient_accumulation_steps": 1},
            2,
            ["is 32"],
        ),
        ({"train_batch_size": 8, "train_micro_batch_size_per_gpu": 16}, 1, ["is 8"]),
    ],
)
def test_batches_that_do_not_divide_are_refused(config: dict[str, Any], world: int, words: list[str]) -> None:
    with pytest.raises(BadUsage) as caught:
        batch_layout(config, world)
    for word in words:
        assert word in str(caught.value)
