"""The command line, what is saved of it, and what a resumed run may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from skill_fast.config import as_dict, parse, save
from skill_fast.errors import BadUsage
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder, what_must_not_change


def test_the_preset_gives_the_defaults_and_options_override_them():
    command = parse(["--preset", "skill_vit_small", "--views.local-crops", "3", "--seed", "9"], PRESETS)
    assert (command.config.views.local_crops, command.config.seed) == (3, 9)
    assert command.config.head.prototypes == 65536
    assert command.config.out == "runs/skill_vit_small"
    assert command.ds_config == Path("ds_configs/zero2.json")


def test_launchers_options_and_both_spellings_are_taken():
    command = parse(
        ["--local_rank=1", "--ds_config", "x.json", "--views.local_crops", "1", "--allow-change", "--fresh"], PRESETS
    )
    assert (command.ds_config, command.config.views.local_crops) == (Path("x.json"), 1)
    assert command.fresh and command.allow_change


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_is_saved_says_every_value(preset, tmp_path):
    config = PRESETS[preset]
    save(tmp_path / "config.yaml", config, {"train_batch_size": 64})
    read = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert read.pop("ds_config") == {"train_batch_size": 64}
    assert read.pop("provenance")["versions"]["torch"]
    assert read == as_dict(config)
    assert read["views"]["generic"]["blur_sigma"] == list(config.views.generic.blur_sigma)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (["--out", "b", "--log-every", "3", "--loader.threads", "7", "--no-evaluate"], True),
        (["--seed", "1"], False),
        (["--steps", "77"], False),
        (["--loader.recipes", "by_type"], False),
        (["--views.generic.hue", "0.2"], False),
    ],
)
def test_what_a_resumed_run_may_change(options, same):
    ds_config = {"train_batch_size": 64}
    plain, changed = (what_must_not_change(as_dict(parse(o, PRESETS).config), ds_config) for o in ([], options))
    assert (plain == changed) == same


def test_the_batch_may_not_change_but_a_monitor_may():
    config = as_dict(PRESETS["demo"])
    base = what_must_not_change(config, {"train_batch_size": 64})
    assert what_must_not_change(config, {"train_batch_size": 64, "tensorboard": {"enabled": True}}) == base
    assert what_must_not_change(config, {"train_batch_size": 32}) != base


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--views.local-size", ["0"]),
        ("--views.global-scale", ["2", "1"]),
        ("--views.local-scale", ["0.4", "0.2"]),
        ("--views.generic.gray-p", ["7"]),
        ("--views.generic.jitter-p", ["-1"]),
        ("--views.generic.hue", ["3"]),
        ("--head.prototypes", ["0"]),
        ("--head.hidden", ["-3"]),
        ("--backbone.patch-size", ["0"]),
        ("--optimizer.beta1", ["2"]),
        ("--optimizer.lr", ["nan"]),
        ("--optimizer.teacher-temp", ["0"]),
        ("--skill.student-temp", ["0"]),
        ("--loader.std", ["1", "0", "1"]),
        ("--epochs", ["inf"]),
        ("--seed", ["-1"]),
    ],
)
def test_a_value_that_can_not_be_is_refused_by_its_option(option, values):
    with pytest.raises(BadUsage, match=option) as refused:
        parse([option, *values], PRESETS)
    assert refused.value.change == option and refused.value.allowed


def test_a_teacher_temperature_that_nothing_would_use_is_refused():
    """Without a warm-up the final temperature is every step's."""
    with pytest.raises(BadUsage, match=r"0\.02 is where a warm-up begins") as refused:
        parse(["--optimizer.teacher-temp", "0.02"], PRESETS)
    assert refused.value.change.startswith("--optimizer.final-teacher-temp")
    parse(["--optimizer.teacher-temp", "0.02", "--optimizer.teacher-temp-warmup-epochs", "1"], PRESETS)
    parse(["--optimizer.final-teacher-temp", "0.02"], PRESETS)
    parse(["--optimizer.teacher-temp", "0.02", "--optimizer.final-teacher-temp", "0.02"], PRESETS)


def test_fresh_throws_an_earlier_run_away_and_nothing_else_does(tmp_path):
    path = tmp_path / "run"
    (path / "checkpoints").mkdir(parents=True)
    RunFolder(path, rank=0).open(fresh=False)
    assert (path / "checkpoints").is_dir()
    RunFolder(path, rank=1).open(fresh=True)
    assert (path / "checkpoints").is_dir(), "only rank 0 writes"
    RunFolder(path, rank=0).open(fresh=True)
    assert list(path.iterdir()) == []
