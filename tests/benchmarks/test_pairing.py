"""Ratios round by round: what is paired, what is said where nothing can be, and how a page tells it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.archive import Record
from benchmarks.headlines import times
from benchmarks.pairing import by_round, ratio_to, ratios, told


def ran(rate: float) -> dict[str, Any]:
    return {"products_per_s": rate}


FAILED = {"can_not": "out of memory"}


def test_only_rounds_in_which_both_ran_are_paired():
    """A quotient of medians would be 25 / 15; the second round is the only one that has both."""
    mine, base = by_round([FAILED, ran(20.0), ran(30.0)]), by_round([ran(10.0), ran(20.0), FAILED])
    assert mine == [None, 20.0, 30.0]
    assert ratio_to("base", mine, base) == {"ratio_to": "base", "ratio": 1.0, "ratios": [1.0, 1.0], "ratio_rounds": 1}


def test_a_round_that_one_side_has_not_come_to_yet_is_no_pair():
    assert ratios([12.0, 24.0], [10.0]) == [1.2]


@pytest.mark.parametrize("base", [[], [None, None], [None, 5.0]])
def test_without_a_common_round_there_is_no_ratio_and_it_is_said(base):
    found = ratio_to("base", [10.0], base)
    assert found == {"ratio_to": "base", "no_ratio": "no round in which both ran"}
    assert told(found, "base") == "no ratio to base: no round in which both ran"


def row(name: str, value: float, **about: Any) -> Record:
    return Record({"what": f"peers/{name}", "value": value, "unit": "products/s", **about}, "f", 1)


def test_a_pages_ratio_of_two_rows_is_of_their_rounds():
    """Ours ran in one round, at twice lightly's speed; the medians' quotient would be 2 x 10 / 7.5."""
    ours, lightly = row("ours", 20.0, by_round=[None, 20.0]), row("lightly", 7.5, by_round=[5.0, 10.0])
    assert times(ours, lightly) == "2.00 times (1 round)"
    assert times(lightly, row("x", 1.0, by_round=[4.0, 5.0])) == "1.62 times (2 rounds)"
    assert times(ours, row("x", 1.0, by_round=[5.0, None])) == "no ratio: no round in which both ran"


def test_a_record_without_its_rounds_says_what_its_ratio_is():
    about = {"ratio_to": "DINO", "repeats": 2}
    ours, lightly = row("ours", 20.0, ratio=1.05, **about), row("lightly", 7.5, ratio=0.84, **about)
    assert times(ours, lightly) == "1.25 times (quotient of medians)"
    assert times(ours, row("DINO", 19.0, ratio=1.0, **about)) == "1.05 times (2 rounds)"
    assert times(row("a", 9.0), row("b", 6.0)) == "1.50 times (quotient of medians)"
