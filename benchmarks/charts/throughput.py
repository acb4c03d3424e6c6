"""Bars and lines of products/s: beside other people's recipes and loaders, over batch size, over commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run, subject

NO_CROPS = "decode only"
OURS, THEIRS, OTHER_ROWS = "#0b6e4f", "#9aa5b1", "#7fb89f"
HISTORY = (
    "train/total",
    "train/compute only",
    "loader/ours",
    "loader/ours, recipes by type",
    "shards/speed/build, 1 worker",
    "kernels/ema/fused",
    "kernels/distillation/both/fused",
)
"""Rows whose past is shown."""


def peers(records: Sequence[Record]) -> Figure | None:
    """Ours beside others' recipes, all trained in one run."""
    rows = newest_run(r for r in records if r.kind == "peers")
    if not any(row.value for row in rows):
        return None
    return bars(rows)


def loaders(records: Sequence[Record]) -> Figure | None:
    """Loaders that make the crops; below, on a scale of its own, what decodes only."""
    rows = newest_run(r for r in records if r.kind == "loader")
    panels = [[r for r in rows if r.name.endswith(NO_CROPS) == without] for without in (False, True)]
    return bars(*filter(None, panels)) if any(row.value for row in rows) else None


def bars(*panels: Sequence[Record]) -> Figure:
    """A bar a row, slowest last; what could not run stands there with its reason. Each panel has its own scale."""
    heights = [len(rows) for rows in panels]
    figure = Figure(figsize=(9, 0.42 * sum(heights) + 0.8 * len(panels)), layout="constrained")
    for axes, rows in zip(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0], panels):
        _panel(axes, rows)
    return figure


def _panel(axes: Any, rows: Sequence[Record]) -> None:
    ordered = sorted(rows, key=lambda row: row.value or 0.0)
    highest = max(row.value or 0.0 for row in ordered) or 1.0
    for place, row in enumerate(ordered):
        value = row.value
        if value is None:
            axes.text(highest * 0.01, place, f"can not: {row.fields['can_not']}"[:90], va="center", color="#8a4b00")
            continue
        axes.barh(place, value, color=_color(row.name), xerr=whiskers(row), error_kw={"ecolor": "#444"})
        alike = row.fields.get("ratio") is not None and not row.name.endswith(NO_CROPS)
        ratio = f"   {row.fields['ratio']:.2f} x" if alike else ""
        axes.text(_end(row), place, f"  {value:,.0f}{ratio}", va="center", fontsize=9)
    axes.set_yticks(range(len(ordered)), [row.name for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlim(0, highest * 1.25)
    axes.set_xlabel(f"{ordered[-1].unit} on {ordered[-1].machine}")
    axes.grid(axis="y", visible=False)


def plain_bars(axes: Any, rows: Mapping[str, float], label: str) -> None:
    """A bar a row, the first at the top, its value beside it."""
    for place, value in enumerate(reversed(rows.values())):
        axes.barh(place, value, color=OURS)
        said = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(said, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=9, bbox=paper)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, max([*rows.values(), 1e-9]) * 1.15)
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)


def legend_below(figure: Figure) -> None:
    """One legend under all that is drawn, so that it covers nothing; for figures of a constrained layout."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    widest = max(len(label) for label in labels)
    columns = max(1, min(6, 110 // (widest + 6)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def whiskers(row: Record) -> list[list[float]] | None:
    """[[below], [above]] the value, from the record's own quantiles; None where it has none."""
    low, high = spread(row)
    value = row.value
    if value is None or low is None or high is None:
        return None
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def spread(row: Record) -> tuple[float | None, float | None]:
    """(low, high) of the repeats: the extremes, or the 10th and 90th of a hundred."""
    quantiles = row.fields.get("quantiles") or {}
    for low, high in (("min", "max"), ("p10", "p90")):
        if low in quantiles and high in quantiles:
            return quantiles[low], quantiles[high]
    return None, None


def batch_sizes(records: Sequence[Record]) -> Figure | None:
    """products/s over settings.batch of the newest sweep: train/total and its two ceilings, all else as in the base."""
    rows = newest_run(r for r in records if r.kind == "train" and r.value and "batch" in r.settings)
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        name, _, changed = row.name.partition(", ")
        if not changed or changed.startswith("batch "):
            lines[name].append((row.settings["batch"], row.value or 0.0))
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*zip(*points), marker="o", label=name)
    sizes = sorted({batch for points in lines.values() for batch, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="products a batch", ylabel=f"products/s on {rows[-1].machine}")
    legend_below(figure)
    return figure


def history(records: Sequence[Record]) -> Figure | None:
    """How many times as fast as at its first record each row of ``HISTORY`` is, over the commits in order of dates.

    A row with one record has no past; how many there are of those is said.
    """
    lines: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.what in HISTORY and record.value:
            lines[subject(record)].append(record)
    alone = sum(len(line) == 1 for line in lines.values())
    drawn = [line for line in lines.values() if len(line) > 1]
    if not drawn:
        return None
    dated = sorted((record.date, record.commit) for line in drawn for record in line)
    commits = list(dict.fromkeys(commit for _, commit in dated))
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    for line in drawn:
        faster = [times_as_fast(line[0], record) for record in line]
        of = f"{line[0].what} ({line[0].value:,.4g} {line[0].unit}; {line[0].data})"
        axes.plot([commits.index(record.commit) for record in line], faster, marker="o", label=of)
    axes.axhline(1, color="#444", linewidth=0.8)
    axes.set_xticks(range(len(commits)), commits, rotation=30, ha="right")
    axes.set_ylim(0, 1.1 * max(axes.get_ylim()[1], 1.0))
    axes.set(xlabel="commit, in order of the records' dates", ylabel="times as fast as at first")
    if alone:
        said = f"not drawn: {alone} row{'s' * (alone > 1)} with one record"
        axes.set_title(said, fontsize=9, loc="left")
    legend_below(figure)
    return figure


def times_as_fast(first: Record, record: Record) -> float:
    """Above 1 is faster, whether the unit is a rate or a time."""
    a, b = first.value or 0.0, record.value or 0.0
    return a / b if first.unit in ("ms", "s") else b / a


def _color(name: str) -> str:
    return OURS if name in ("ours", "total") else OTHER_ROWS if name.startswith("ours") else THEIRS


def _end(row: Record) -> float:
    high = spread(row)[1]
    return max(row.value or 0.0, high or 0.0)
