"""``skill-eval compare A B``: two finished evaluations, score by score, with the difference and its interval."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skill_fast.errors import BadData
from skill_fast.evaluate.bootstrap import percentile_interval
from skill_fast.evaluate.finished import Finished, different_settings, read_all, why_not_comparable
from skill_fast.evaluate.scoreboard import widen_plain


@dataclass(frozen=True)
class Difference:
    """One score of two runs. low, high: the 95 % interval of B - A, None where a run has no finite replicates of it."""

    name: str
    a: float
    b: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """ "apart" where the interval leaves out 0, "not told apart" where it holds it, "" without one."""
        if self.low is None or self.high is None:
            return ""
        return "not told apart" if self.low <= 0 <= self.high else "apart"


def differences(one: Finished, other: Finished) -> Iterator[Difference]:
    """Every score that both have, with the interval of the difference by a paired bootstrap.

    Replicate r of either run drew the same products (``bootstrap``), so B_r - A_r are replicates of the difference:
    what is easy or hard for both cancels. Scores that are means over clusters or predicted groups have units of
    their own in each run; there the draws are as good as independent.
    """
    for name, value in one.scores.items():
        if name not in other.scores or name.endswith(("_low", "_high")):
            continue
        drawn = [run.replicates.get(name, []) for run in (one, other)]
        if not drawn[0] or len(drawn[0]) != len(drawn[1]) or not np.isfinite(drawn).all():
            yield Difference(name, value, other.scores[name])
            continue
        low, high = percentile_interval(np.subtract(drawn[1], drawn[0]))
        yield Difference(name, value, other.scores[name], low, high)


def only_in(one: Finished, other: Finished) -> list[str]:
    """Scores that ``other`` lacks, as "probe/pattern/..." where it has nothing of such a name, in order."""
    missing = [name for name in one.scores if name not in other.scores and not name.endswith(("_low", "_high"))]
    starts = {_start(name) for name in other.scores}
    return list(dict.fromkeys(name if _start(name) in starts else _start(name) for name in missing))


def _start(name: str) -> str:
    """Task and attribute; the name itself where it has no third part."""
    parts = name.split("/")
    return "/".join([*parts[:2], "..."]) if len(parts) > 2 else name


def main_compare(arguments: Sequence[str]) -> None:
    """Print both runs' scores; raises BadData where they were scored on different products."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="skill-eval compare", description="Two runs' scores.")
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), type=Path, help="run folder, or a file of skill-eval --json")
    options = parser.parse_args(arguments)
    one, other = read_all([options.a, options.b])
    if why := why_not_comparable(one, other):
        raise BadData(
            f"{other.name} was scored on {why} than {one.name}",
            allowed="two evaluations of the same data set, split and protocol",
            change="skill-eval both runs with the same --data and --split",
        )
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("score", overflow="fold")
    for heading in ("A", "B", "B - A", "95 % interval", ""):
        table.add_column(heading, no_wrap=True)
    for d in differences(one, other):
        interval = "" if d.low is None else f"{d.low:+.4g} to {d.high:+.4g}"
        table.add_row(Text(d.name), f"{d.a:.4g}", f"{d.b:.4g}", f"{d.b - d.a:+.4g}", interval, d.verdict)
    console = Console()
    widen_plain(console, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(f"A = {one.name}, B = {other.name}", highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    notes = [f"A and B differ in {how}" for how in different_settings(one, other)]
    for name, missing in (("A", only_in(one, other)), ("B", only_in(other, one))):
        if missing:
            notes.append(f"only {name} has: {', '.join(missing)}")
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
