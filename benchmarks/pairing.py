"""Ratios of what was measured in turns: round by round, so that a slow minute of the machine hits both sides alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.processes import Record

RATE = "products_per_s"
NO_RATIO = "no round in which both ran"


def by_round(repeats: Sequence[Record]) -> list[float | None]:
    """products/s a round; None for one in which it could not run."""
    return [None if "can_not" in repeat else repeat[RATE] for repeat in repeats]


def ratios(mine: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Mine over theirs in each round that has both, sorted."""
    pairs = zip(mine, theirs)
    return sorted(one / other for one, other in pairs if one is not None and other is not None)


def ratio_to(name: str, mine: Sequence[float | None], base: Sequence[float | None]) -> Record:
    """The fields of a record about its ratio to the row ``name``: median, least and most, of how many rounds.

    Without a round that has both there is no ratio, and the field ``no_ratio`` says so.
    """
    found = ratios(mine, base)
    if not found:
        return {"ratio_to": name, "no_ratio": NO_RATIO}
    about = {"ratio": statistics.median(found), "ratios": [found[0], found[-1]], "ratio_rounds": len(found)}
    return {"ratio_to": name, **about}


def told(record: Record, name: str) -> str:
    """A record's ratio for people: "1.25 x base, 2 rounds"; why there is none; nothing where none was asked for."""
    if "ratio" not in record:
        return f"no ratio to {name}: {record['no_ratio']}" if "no_ratio" in record else ""
    rounds = record["ratio_rounds"]
    return f"{record['ratio']:5.2f} x {name}, {rounds} round{'s' * (rounds != 1)}"
