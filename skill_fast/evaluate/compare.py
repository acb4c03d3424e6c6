"""``skill-eval compare A B``: two finished evaluations, score by score, with the difference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from skill_fast.errors import BadData
from skill_fast.evaluate.finished import Finished, read_finished, why_not_comparable


def differences(one: Finished, other: Finished) -> Iterator[tuple[str, float, float, str]]:
    """(name, A, B, what their intervals say) of every score that both have.

    "apart": the two 95 % intervals do not meet, which is stricter than a test of the difference. "overlap": they do.
    "": the score has no interval.
    """
    for name, value in one.scores.items():
        if name not in other.scores or name.endswith(("_low", "_high")):
            continue
        ends = [run.scores.get(f"{name}_{end}") for run in (one, other) for end in ("low", "high")]
        low_a, high_a, low_b, high_b = ends
        if low_a is None or high_a is None or low_b is None or high_b is None:
            verdict = ""
        else:
            verdict = "overlap" if low_a <= high_b and low_b <= high_a else "apart"
        yield name, value, other.scores[name], verdict


def main_compare(arguments: Sequence[str]) -> None:
    """Print both runs' scores; raises BadData where they were scored on different products."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="skill-eval compare", description="Two runs' scores.")
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), type=Path, help="run folder, or a file of skill-eval --json")
    options = parser.parse_args(arguments)
    one, other = read_finished(options.a), read_finished(options.b)
    if why := why_not_comparable(one, other):
        raise BadData(
            f"{other.name} was scored on {why} than {one.name}",
            allowed="two evaluations of the same data set, split and protocol",
            change="skill-eval both runs with the same --data and --split",
        )
    table = Table("score", "A", "B", "B - A", "95 % intervals")
    for name, a, b, verdict in differences(one, other):
        table.add_row(name, f"{a:.4g}", f"{b:.4g}", f"{b - a:+.4g}", verdict)
    console = Console()
    console.print(f"A = {one.name}, B = {other.name}", highlight=False, markup=False)
    console.print(table)
