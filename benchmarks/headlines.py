"""README's figures: which newest records answer the questions that a reader asks first, and how each is told.

A ``Headline`` finds its figures among records of one device class; where there are none the line is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.archive import Record
from benchmarks.pairing import NO_RATIO, ratios
from benchmarks.tables import RATIOS, Table, measured, plain, quantity


@dataclass(frozen=True)
class Headline:
    """One of README's figures: ``found`` gives (data set or "", figure, record) among records of one device class."""

    label: str
    found: Callable[[Sequence[Record]], list[tuple[str, str, Record]]]


def value_of(what: str, *, each_data: bool = False) -> Callable[[Sequence[Record]], list[tuple[str, str, Record]]]:
    """The newest value of a row; with ``each_data`` one for every data set.

    Of ratios that the same day holds several of, their median, and the range: the newest alone might be the luckiest.
    """

    def found(records: Sequence[Record]) -> list[tuple[str, str, Record]]:
        rows = [r for r in records if r.what == what and r.value is not None]
        if not each_data:
            return [("", _pooled(rows), rows[-1])] if rows else []
        groups = [[r for r in rows if r.data == data] for data in dict.fromkeys(r.data for r in rows)]
        return [(group[-1].data, _pooled(group), group[-1]) for group in groups]

    return found


def _pooled(rows: Sequence[Record]) -> str:
    newest = rows[-1]
    alike = [r for r in rows if r.machine == newest.machine and r.date[:10] == newest.date[:10]]
    if newest.unit not in RATIOS or len(alike) == 1:
        return quantity(newest.value or 0.0, newest.unit)
    values = sorted(r.value or 0.0 for r in alike)
    return f"{quantity(median(values), newest.unit)} ({values[0]:.2f} to {values[-1]:.2f} in {len(values)} runs)"


WORKLOAD = ("model", "recipes", "drop_path_by_subset")
"""Settings that change what is trained; the others only how."""


def default_and_best(what: str) -> Callable[[Sequence[Record]], list[tuple[str, str, Record]]]:
    """The row of the newest run that has it, and the fastest of its sweep ("train/total, batch 512"), named.

    Of the sweep only rows of the same workload: a smaller model is no faster training of this one.
    """

    def found(records: Sequence[Record]) -> list[tuple[str, str, Record]]:
        defaults = [r for r in records if r.what == what and r.value]
        if not defaults:
            return []
        default = defaults[-1]
        swept = [r for r in records if r.what.startswith(f"{what}, ") and r.value and r.run == default.run]
        alike = [r for r in swept if workload(r) == workload(default)]
        best = max([default, *alike], key=lambda r: r.value or 0.0)  # of equals the default
        figure = rate(default)
        if best is not default:
            figure += f"; the fastest of {len(alike)} other settings, {best.what.partition(', ')[2]}: {rate(best)}"
        return [(str(default.settings.get("model") or ""), figure, default)]

    return found


def workload(record: Record) -> tuple[object, ...]:
    return (record.data, *(record.settings.get(name) for name in WORKLOAD))


def rate(record: Record) -> str:
    """62.49 products/s (1 round)"""
    repeats = record.fields.get("repeats")
    return quantity(record.value or 0.0, record.unit) + (f" ({_rounds(repeats)})" if isinstance(repeats, int) else "")


def scored_at(products: int) -> Callable[[Sequence[Record]], list[tuple[str, str, Record]]]:
    """Time and peak memory of the newest run that scored so many products."""

    def found(records: Sequence[Record]) -> list[tuple[str, str, Record]]:
        mine = [r for r in records if r.kind == "evaluate" and r.fields.get("shapes", {}).get("products") == products]
        last = {r.name: r for r in mine if r.run == mine[-1].run}
        if not {"all parts", "peak memory"} <= last.keys():
            return []
        figures = (quantity(last[name].value or 0.0, last[name].unit) for name in ("all parts", "peak memory"))
        return [("", ", ".join(figures), last["all parts"])]

    return found


def ratio_of(what: str, base: str) -> Callable[[Sequence[Record]], list[tuple[str, str, Record]]]:
    """How many times ``base`` a row is, a data set, in its newest run that has both; in how many rounds."""

    def found(records: Sequence[Record]) -> list[tuple[str, str, Record]]:
        by_data: dict[str, tuple[str, str, Record]] = {}
        for record in (r for r in records if r.what == what and r.value):
            others = [r for r in records if r.what == base and r.run == record.run and r.value]
            if others:
                by_data[record.data] = (record.data, times(record, others[-1]), record)
        return list(by_data.values())

    return found


def times(record: Record, other: Record) -> str:
    """The median over the rounds that have both, and how many these are: "1.25 times (2 rounds)".

    Records that do not hold their rounds give their ratio to the row that it was taken to, else only a quotient of
    medians, maybe of different rounds; that is said.
    """
    mine, theirs = (r.fields.get("by_round") for r in (record, other))
    if mine and theirs:
        found = ratios(mine, theirs)
        return f"{quantity(median(found), 'times')} ({_rounds(len(found))})" if found else f"no ratio: {NO_RATIO}"
    to = record.fields.get("ratio_to")
    if record.fields.get("ratio") is not None and to in (other.what, other.name):
        rounds = record.fields.get("ratio_rounds") or record.fields.get("repeats")
        return quantity(record.fields["ratio"], "times") + (f" ({_rounds(rounds)})" if rounds else "")
    shared = to is not None and to == other.fields.get("ratio_to")
    one, two = (r.fields.get("ratio") if shared else r.value for r in (record, other))
    return f"{quantity((one or 0.0) / (two or 1.0), 'times')} (quotient of medians)"


def _rounds(number: int) -> str:
    return f"{number} round{'s' * (number != 1)}"


DALI_READER = "loader/DALI readers.webdataset, random inside"
HEADLINES = (
    Headline("training as it is by default, photographs from disk", default_and_best("train/total")),
    Headline(
        "the same, to synthetic tensors on the device",
        ratio_of("train/total", "train/compute only"),
    ),
    Headline("training to the original DINO recipe", ratio_of("peers/ours", "peers/original DINO recipe")),
    Headline("training to lightly's recipe", ratio_of("peers/ours", "peers/lightly")),
    Headline("loader alone, 2 x 224 + 8 x 96", value_of("loader/ours", each_data=True)),
    Headline("loader to torchvision + PIL", ratio_of("loader/ours", "loader/torchvision + PIL DataLoader")),
    Headline("loader to DALI's own webdataset reader", ratio_of("loader/ours", DALI_READER)),
    Headline("loader to webdataset + torchvision", ratio_of("loader/ours", "loader/webdataset + torchvision")),
    Headline("loader, 1 % of photographs broken to none", value_of("faults/1 % broken to clean")),
    Headline("teacher's average: foreach to fused", value_of("kernels/ema/foreach over fused")),
    Headline("loss, both passes: loops to fused", value_of("kernels/distillation/both/loops over fused")),
    Headline(
        "building shards to a bare Pillow loop, one worker",
        value_of("shards/ratio/build without H, 1 worker to pillow loop, 1 process", each_data=True),
    ),
    Headline(
        "the same, trimming and padding to squares",
        value_of("shards/ratio/build, 1 worker to pillow loop to squares, 1 process", each_data=True),
    ),
    Headline(
        "two workers to one, photographs kept in their frame",
        value_of("shards/ratio/build without H, 2 workers to build without H, 1 worker", each_data=True),
    ),
    Headline(
        "two processes of the bare Pillow loop to one",
        value_of("shards/ratio/pillow loop, 2 processes to pillow loop, 1 process", each_data=True),
    ),
    Headline("building 1,000,000 tiny products", value_of("shards/scale/1000000/build")),
    Headline("opening them for training", value_of("shards/scale/1000000/open for training")),
    Headline("scoring 1,000,000 embeddings of 384: neighbours, k-means, retrieval", scored_at(1_000_000)),
)


def headlines(records: Sequence[Record], link: str) -> Table:
    """The figures of README that these records hold; ``link`` is put before the names of their files."""
    rows = []
    for line in HEADLINES:
        for data, figure, record in line.found(records):
            label = f"{line.label}: {data}" if data else line.label
            rows.append((plain(label), plain(figure), *measured(record, link)))
    return Table("", ("what", "figure", "machine", "commit", "measured"), tuple(rows))
