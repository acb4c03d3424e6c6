"""Finished evaluations, read back: what ``skill-eval tables`` and ``skill-eval compare`` start from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skill_fast.errors import BadData

MAX_JSON_BYTES = 64 << 20
SETTINGS = ("pooling", "resize", "crop", "color_source", "knn", "variants")
"""How was scored, beside what: scores of two settings may be compared, but the reader must know."""


@dataclass(frozen=True)
class Finished:
    """One run's evaluation. ``scores`` are the trained encoder's, ``result`` is all that ``evaluate`` returned."""

    name: str
    scores: Mapping[str, float]
    result: Mapping[str, Any]

    @property
    def replicates(self) -> Mapping[str, list[float]]:
        """Score -> bootstrap replicates of the trained encoder; empty where the evaluation wrote none."""
        return self.result.get("replicates", {})


def read_all(places: Sequence[Path]) -> list[Finished]:
    """Every evaluation; runs of one name take as many folders above them into it as tell them apart."""
    runs = [read_finished(place) for place in places]
    paths = [place.resolve() for place in places]
    taken: dict[str, int] = {}
    names = []
    for run, path in zip(runs, paths):
        alike = [each for other, each in zip(runs, paths) if other.name == run.name and each != path]
        depth = next(n for n in range(1, len(path.parts) + 1) if all(e.parts[-n:] != path.parts[-n:] for e in alike))
        name = run.name if not alike else "/".join(printable(part) for part in path.parts[-depth:])
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return [replace(run, name=name) for run, name in zip(runs, names)]


def printable(text: str) -> str:
    """Line breaks, control characters and undecodable bytes as Python writes them, so that a name stays in its cell."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def read_finished(place: Path) -> Finished:
    """Read a run folder's evaluation.json, or a file that ``skill-eval --json`` wrote.

    Raises BadData for what is missing, too large, no JSON, or no evaluation with a row "trained".
    """
    path = place / "evaluation.json" if place.is_dir() else place
    change = f"skill-eval {place} --json {path}"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BadData(f"'{path}' has over {MAX_JSON_BYTES} bytes", change=change)
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"'{path}' does not exist: no evaluation was written there", change=change) from None
    except (ValueError, RecursionError) as error:
        raise BadData(f"'{path}' is no JSON: {error}", change=change) from error
    rows = result.get("rows") if isinstance(result, dict) else None
    scores = rows.get("trained") if isinstance(rows, dict) else None
    if not isinstance(scores, dict) or not all(isinstance(value, (int, float)) for value in scores.values()):
        raise BadData(f"'{path}' has no scores of a trained encoder", change=change)
    drawn = result.get("replicates", {})
    if not isinstance(drawn, dict) or not all(_numbers(values) for values in drawn.values()):
        raise BadData(f"'{path}' has replicates that are no lists of numbers", change=change)
    name = place.resolve().name if place.is_dir() else place.stem
    return Finished(printable(name), scores, result)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)


def why_not_comparable(one: Finished, other: Finished) -> str:
    """In what two evaluations differ that makes their scores differ, or "" if in nothing."""
    parts = [key for key in ("dataset", "split", "protocol") if one.result.get(key) != other.result.get(key)]
    return f"another {' and another '.join(parts)}" if parts else ""


def different_settings(one: Finished, other: Finished) -> Iterator[str]:
    """ "pooling: class, last4" of every setting in which two evaluations of the same products differ."""
    for name in SETTINGS:
        values = [run.result.get(name) for run in (one, other)]
        if values[0] != values[1]:
            shown = ("not recorded" if value is None else str(value) for value in values)
            yield f"{name}: {', '.join(shown)}"


def notes_on(runs: Sequence[Finished]) -> list[str]:
    """What sets later runs apart from the first: other data, or the same data scored in another way."""
    notes = []
    for run in runs[1:]:
        if why := why_not_comparable(runs[0], run):
            notes.append(f"{run.name} was scored on {why} than {runs[0].name}")
        notes += [f"{runs[0].name} and {run.name} differ in {how}" for how in different_settings(runs[0], run)]
    return notes
