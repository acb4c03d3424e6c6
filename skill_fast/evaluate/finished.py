"""Finished evaluations, read back: what ``skill-eval tables`` and ``skill-eval compare`` start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skill_fast.errors import BadData

MAX_JSON_BYTES = 64 << 20


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
    return Finished(place.name if place.is_dir() else place.stem, scores, result)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)


def why_not_comparable(one: Finished, other: Finished) -> str:
    """In what two evaluations differ that makes their scores differ, or "" if in nothing."""
    parts = [key for key in ("dataset", "split", "protocol") if one.result.get(key) != other.result.get(key)]
    return f"another {' and another '.join(parts)}" if parts else ""
