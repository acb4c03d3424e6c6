"""When steps that were skipped end a run, and what is told of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from skill_fast.engine.not_finite import NotFiniteSteps
from skill_fast.engine.student import Engine
from skill_fast.errors import NotFinite


def ids_of(products: np.ndarray) -> list[str]:
    return [f"p{number}" for number in products]


def noted(flags: str, *, every: int, judged: bool = True, file=None, steps=()) -> NotFiniteSteps:
    """A run of steps, "." finite and "x" not, looked at every ``every``."""
    found = NotFiniteSteps(file, ids_of, judged=judged)
    found.steps = list(steps)
    for place, flag in enumerate(flags, start=1):
        found.note(place, torch.tensor(flag == "."), np.array([place, 1, place]))
        if place % every == 0:
            found.look()
    found.look()
    return found


@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_three_in_a_row_end_the_run_however_seldom_it_looks(every):
    assert noted("..xx.xx.x..", every=every).steps == [3, 4, 6, 7, 9]
    with pytest.raises(NotFinite, match="3 steps in a row up to step 6 are not finite: steps 2, 4, 5, 6") as stop:
        noted(".x.xxx..", every=every)
    assert stop.value.exit_code == 5


def test_ten_of_a_thousand_end_the_run_and_older_ones_do_not_count():
    spread = ("x" + "." * 110) * 9
    assert len(noted(spread, every=10).steps) == 9
    with pytest.raises(NotFinite, match="10 steps of the latest 1,000 up to step 1000"):
        noted(spread + "x", every=10)
    assert len(noted(spread + ".." + "x", every=10).steps) == 9  # the first one is 1,001 steps ago


def test_a_resumed_run_goes_on_counting():
    with pytest.raises(NotFinite, match="steps 0, 1, 2"):
        noted("xx", every=5, steps=[0])


def test_a_resumed_run_lists_no_step_twice(tmp_path):
    file = tmp_path / "n.jsonl"
    noted(".x..x", every=5, file=file)
    again = NotFiniteSteps(file, ids_of, judged=True)
    again.resume([2], 4)
    again.note(5, torch.tensor(False), np.array([9]))
    again.look()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == again.steps == [2, 5] and lines[1]["products"] == ["p9"]


def test_a_search_for_a_loss_scale_is_not_judged():
    assert noted("xxxx", every=2, judged=False).steps == [1, 2, 3, 4]


def test_products_are_named_once_a_step(tmp_path):
    noted(".x.x", every=4, file=tmp_path / "n.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "n.jsonl").read_text().splitlines()]
    assert lines == [{"step": 2, "products": ["p1", "p2"]}, {"step": 4, "products": ["p1", "p4"]}]


@pytest.mark.parametrize(
    ("precision", "section", "searches"),
    [("fp16", {}, True), ("fp16", {"loss_scale": 0}, True), ("fp16", {"loss_scale": 128}, False), ("bf16", {}, False)],
)
def test_skipped_steps_are_excused_only_while_a_loss_scale_is_searched_for(precision, section, searches):
    """A fixed scale does not change, so a step that is not finite with it is a fault as in every precision."""
    engine = Engine.__new__(Engine)
    engine.precision, engine.ds_config = precision, {precision: {"enabled": True, **section}}
    assert engine.searches_for_a_loss_scale is searches
