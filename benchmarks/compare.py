"""A regression check of two record files: which rows became slower by more than a threshold and more than the noise.

    python -m benchmarks.compare BEFORE AFTER [--threshold 0.05] [--noise 0.03] [--strict] [--any-machine]

Rows meet by what they measured: name, unit, shapes, dtype, settings, data, machine. A row's noise is half the range of
its repeats over their median, and never less than ``--noise``: two repeats may be equal by chance. A row is slower when
it lost more than the threshold *and* more than both noises together. A row is "cannot tell" where it lost more than the
threshold within that noise, or where ranges are so wide that such a loss would not show. "not judged" has a unit of
which more is neither better nor worse, as the nats of an entropy, or is a score of which that is true. With
``--any-machine`` neither the machines nor their numbers of workers need be the same.

Exit code 1: a row is slower or can not run any more; with ``--strict`` also where a row cannot be told, is missing or
not judged, or a damaged line was left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.archive import SLOWDOWN, Record, read, subject
from benchmarks.charts.throughput import spread
from benchmarks.tables import quantity
from shards.errors import BadData, BadUsage, Failure, exit_with

LESS_IS_BETTER = ("ms", "s", "MiB", "MB", "GB", "bytes", "J", "us", SLOWDOWN)
MORE_IS_BETTER = ("products/s", "images/s", "photographs/s", "times", "ratio", "share", "GB/s")
NEITHER = ("demo/knn/color/accuracy",)
"""Rows of a unit of which more is better elsewhere: a method that knows colours less may be the better one."""
SLOWER, FASTER, SAME, LOST, MISSING, NEW = "slower", "faster", "same", "can not run", "missing", "new"
CANNOT_TELL, NOT_JUDGED = "cannot tell", "not judged"


@dataclass(frozen=True)
class Verdict:
    """One row: ``gain`` is above 0 where it became better, as a share of what it was."""

    what: str
    verdict: str
    gain: float = 0.0
    noise: float = 0.0
    figures: str = ""


class Slower(Failure):
    """At least one row is slower, or can not run any more; with ``--strict``, one of which that is not known."""


def verdicts(before: Sequence[Record], after: Sequence[Record], *, threshold: float, noise: float, any_machine: bool):
    """A verdict a row of either file; BadData where the files have no row in common."""
    old, new = (_grouped(records, any_machine) for records in (before, after))
    if not old.keys() & new.keys():
        raise BadData(
            "the two files have no row in common",
            allowed="rows of the same name, unit, shapes, settings, data and machine",
            change="measure both alike; --any-machine compares rows of different machines",
        )
    found = []
    for key in dict.fromkeys([*old, *new]):
        if key not in new or key not in old:
            found.append(Verdict(key[0], MISSING if key in old else NEW))
        else:
            found.append(judged(old[key], new[key], threshold=threshold, noise=noise))
    return found


def judged(old: Sequence[Record], new: Sequence[Record], *, threshold: float, noise: float) -> Verdict:
    """The verdict over the repeats of one row."""
    what, unit = old[0].what, old[0].unit
    values = [[r.value for r in records if r.value is not None] for records in (old, new)]
    if not values[0] or not values[1]:
        return Verdict(what, LOST if values[0] else SAME if not values[1] else NEW)
    was, now = median(values[0]), median(values[1])
    figures = f"{quantity(was, unit)} -> {quantity(now, unit)}"
    if unit not in (*LESS_IS_BETTER, *MORE_IS_BETTER) or what in NEITHER:
        return Verdict(what, NOT_JUDGED, 0.0, 0.0, f"{figures}, is more of '{unit}' better?")
    if was <= 0 or now <= 0:
        return Verdict(what, SAME if was == now else SLOWER, 0.0, 0.0, figures)
    gain = now / was - 1 if unit in MORE_IS_BETTER else was / now - 1
    both = noise_of(old, noise) + noise_of(new, noise)
    if abs(gain) > max(threshold, both):
        return Verdict(what, FASTER if gain > 0 else SLOWER, gain, both, figures)
    blind = gain < -threshold or both > max(threshold, 2 * noise)  # 2 * noise is what the caller takes for granted
    return Verdict(what, CANNOT_TELL if blind else SAME, gain, both, figures)


def noise_of(records: Sequence[Record], least: float) -> float:
    """Half the range over the median, of several records' values or of one record's quantiles; ``least`` or more."""
    values = [r.value for r in records if r.value is not None]
    if len(values) > 1:
        return max(least, (max(values) - min(values)) / 2 / median(values))
    low, high = spread(records[0])
    repeats = records[0].fields.get("repeats", 1)
    if low is None or high is None or (repeats if isinstance(repeats, int) else len(repeats)) < 2:
        return least
    return max(least, (high - low) / 2 / values[0])


def _grouped(records: Sequence[Record], any_machine: bool) -> dict[tuple[str, ...], list[Record]]:
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        found.setdefault(subject(record, any_machine=any_machine), []).append(record)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="records, a .jsonl file or a folder")
    parser.add_argument("after", type=Path)
    parser.add_argument("--threshold", type=float, default=0.05, help="share that a row may lose (default %(default)s)")
    parser.add_argument("--noise", type=float, default=0.03, help="of any row, at least (default %(default)s)")
    parser.add_argument("--strict", action="store_true", help="what cannot be told or is not judged fails too")
    parser.add_argument(
        "--any-machine", action="store_true", help="compare rows of different machines, also of other workers"
    )
    return exit_with(lambda: run(parser.parse_args(arguments)))


def run(options: argparse.Namespace) -> None:
    if not 0 <= options.threshold < 1 or not 0 <= options.noise < 1:
        raise BadUsage(
            f"--threshold {options.threshold}, --noise {options.noise}", allowed="shares, 0 to 1", change="0.05 is 5 %"
        )
    about = {"threshold": options.threshold, "noise": options.noise, "any_machine": options.any_machine}
    damaged: list[str] = []
    found = verdicts(*(read(file, damaged=damaged) for file in (options.before, options.after)), **about)
    for said in damaged:
        print(f"left out: {said}", file=sys.stderr)
    for row in sorted(found, key=lambda row: row.gain):
        judged_at = f"{row.gain:+7.1%} (noise {row.noise:.1%})   " if row.verdict != NOT_JUDGED else ""
        print(f"{row.verdict:<12}{row.what:<60}{judged_at + row.figures if row.figures else ''}")
    blind = [row for row in found if row.verdict == CANNOT_TELL]
    if blind:
        said = f"of {len(blind)} of {len(found)} rows a loss of {options.threshold:.0%} cannot be told from noise"
        print(f"{said}: more repeats, or a quiet machine")
    raise_if_worse(found, damaged, options)
    unjudged = sum(row.verdict in (CANNOT_TELL, NOT_JUDGED, MISSING, NEW) for row in found)
    judged_rows = len(found) - unjudged
    print(f"no row of the {judged_rows} that could be judged lost more than {options.threshold:.0%} and the noise")


def raise_if_worse(found: Sequence[Verdict], damaged: Sequence[str], options: argparse.Namespace) -> None:
    """Raises Slower for what the exit code stands for."""
    worse = [row for row in found if row.verdict in (SLOWER, LOST)]
    if worse:
        raise Slower(
            f"{len(worse)} of {len(found)} rows are slower by more than {options.threshold:.0%} and the noise",
            change=f"look at {worse[0].what}; or measure again on a quiet machine",
        )
    unknown = [row for row in found if row.verdict in (CANNOT_TELL, NOT_JUDGED, MISSING)]
    if options.strict and (unknown or damaged):
        first = f"{unknown[0].what}: {unknown[0].verdict}" if unknown else damaged[0]
        raise Slower(
            f"--strict: {len(unknown)} of {len(found)} rows and {len(damaged)} damaged lines say nothing, as {first}",
            change="measure these again, with more repeats; or leave --strict out",
        )


if __name__ == "__main__":
    sys.exit(main())
