"""RankMe and the spread against their formulas in loops, and the words for a collapse."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.config import parse
from skill_fast.engine.optimizer import Course
from skill_fast.presets import PRESETS
from skill_fast.telemetry.collapse import CollapseWatch, rank_me, unit_std, verdict


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 9), dim=st.integers(1, 7), seed=st.integers(0, 99))
def test_both_are_their_definitions(n, dim, seed):
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp_min(0).sqrt().tolist()  # zeros beyond min(n, dim)
    shares = sorted((v / sum(values) for v in values), reverse=True)[: min(n, dim)]
    expected = math.exp(-sum((p + 1e-7) * math.log(p + 1e-7) for p in shares))
    assert rank_me(rows).item() == pytest.approx(expected, rel=1e-3)
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]
    stds = []
    for column in zip(*unit):
        mean = sum(column) / n
        stds.append(math.sqrt(sum((x - mean) ** 2 for x in column) / n))
    assert unit_std(rows).item() == pytest.approx(sum(stds) / dim * math.sqrt(dim), rel=1e-4, abs=1e-6)


def test_known_ends():
    assert rank_me(torch.eye(5)).item() == pytest.approx(5, rel=1e-4)
    same = torch.ones(6, 4)
    assert rank_me(same).item() == pytest.approx(1, rel=1e-4) and unit_std(same).item() == pytest.approx(0, abs=1e-6)
    wide = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert unit_std(wide).item() == pytest.approx(1, abs=0.01)


ALIVE = {"rank": 30.0, "std": 0.8, "teacher_entropy": 3.0, "kl": 0.6, "prototypes": 256}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"teacher_entropy": math.log(256), "kl": 0.0}, "uniform"),
        ({"teacher_entropy": math.log(256), "kl": 0.2}, "uniform"),  # the student has yet to follow
        ({"teacher_entropy": math.log(256) - 0.02, "kl": 0.0}, ""),
        ({"teacher_entropy": 0.0, "kl": 0.2}, ""),  # sharp, and not all the same prototype
        ({"teacher_entropy": 0.0, "kl": 0.0}, "one prototype"),
        ({"rank": 1.2}, "the same way"),
        ({"std": 0.01}, "the same way"),
        ({"std": math.nan}, ""),
        ({"projection_std": 0.01}, "projections point nearly the same way"),
        ({"projection_std": 0.9}, ""),
    ],
)
def test_a_collapse_is_said_in_words_with_an_option_to_try(change, word):
    said = verdict(ALIVE | change)
    assert (word in said and "--" in said) if word else said == ""


def test_methods_without_a_teacher_are_judged_by_what_they_have():
    assert verdict({"loss": 1.0}) == "" and "the same way" in verdict({"loss": 1.0, "std": 0.0})


@pytest.mark.parametrize(
    "figures", [{"teacher_entropy": math.log(256), "kl": 0.0}, {"teacher_entropy": 0.0, "kl": 0.0}]
)
@pytest.mark.parametrize("method", ["skill", "dino"])
def test_the_options_are_those_of_the_method(figures, method):
    said = verdict(ALIVE | figures, method)
    assert set(re.findall(r"--(skill|dino)\.", said)) == {method}


def test_a_collapse_is_said_once_until_it_is_over():
    """Rows without a look at held-out products neither end a collapse nor begin one."""
    watch = CollapseWatch("simsiam")
    rows = [
        {"watch/std": 0.01},
        {},
        {"watch/std": 0.01},
        {},
        {"watch/std": 0.5},
        {},
        {"watch/std": 0.02},
        {"loss": None},
    ]
    assert [bool(watch(row)) for row in rows] == [True, False, False, False, False, False, True, False]


def test_the_projections_are_judged_where_nothing_else_is_looked_at():
    watch = CollapseWatch("byol")
    assert not watch({"projection_std": 0.6}) and "projections" in watch({"projection_std": 0.05})


@pytest.mark.parametrize("preset", ["skill_vit_small", "skill_demo", "dino_demo"])
@pytest.mark.parametrize(
    "figures",
    [{"teacher_entropy": math.log(256)}, {"teacher_entropy": 0.0, "kl": 0.0}, {"std": 0.0}],
    ids=["uniform", "one prototype", "same way"],
)
def test_each_option_that_is_advised_changes_what_a_run_is(preset, figures):
    """Parsed by train.py's parser: another value of the option is another run, by a step's values or elsewhere."""
    said = verdict(ALIVE | figures, PRESETS[preset].method)
    options = re.findall(r"--([a-z]+)\.([a-z-]+)(?: ([0-9.]+|fan_in|sinkhorn))?", said)
    assert options
    for section, name, value in options:
        now = getattr(getattr(PRESETS[preset], section), name.replace("-", "_"))
        other = value or str(now / 2 if now else 1.0)
        if other == str(now):
            continue
        changed = parse(["--preset", preset, f"--{section}.{name}", other], PRESETS).config
        if section == "optimizer":
            first, second = (
                [vars(Course(c.optimizer, total_steps=900, steps_per_epoch=30, global_batch=64)[n]) for n in (40, 800)]
                for c in (PRESETS[preset], changed)
            )
            assert first != second, name
        else:
            assert getattr(changed, section) != getattr(PRESETS[preset], section)
