"""The kernels under the roof that memory sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.charts.throughput import legend_below

WAYS = {
    "fused": ("#0b6e4f", "o"),
    "compiled": ("#c9a227", "s"),
    "reference": ("#5c6770", "^"),
    "foreach": ("#7a5195", "D"),
    "loops": ("#2f6690", "v"),
}
"""Colour and marker by contender."""
OTHERS = ("#000000", "x")
ROOF = "#c44536"


def roofline(records: Sequence[Record]) -> Figure | None:
    """GB/s at which each contender moves the least bytes of its task, over those bytes.

    The roof over a task is a plain copy of as many bytes, timed in turn with its contenders, so that both lie in a
    cache or neither does; the copy past every cache is a line.
    """
    rows = newest_run(r for r in records if r.kind == "kernels")
    points = [r for r in rows if r.value and r.fields.get("least_bytes")]
    past_caches = [r.fields["gb_per_s"] for r in rows if r.what == "kernels/copy"]
    if not points or not past_caches:
        return None
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    roof = roof_of(points)
    if roof:
        axes.plot(*zip(*roof), color=ROOF, marker="_", markersize=14, label="plain copy of as many bytes")
    unequal = "" if roof else "\nthis run has no copy of equal size: what lies in a cache may be faster than the line"
    line = f"plain copy past every cache: {past_caches[-1]:,.0f} GB/s"
    axes.axhline(past_caches[-1], color=ROOF, linestyle=":", label=line)
    for way in dict.fromkeys([*WAYS, *map(way_of, points)]):
        mine = [(megabytes_of(r), gb_per_s_of(r)) for r in points if way_of(r) == way]
        color, marker = WAYS.get(way, OTHERS)
        if mine:
            axes.plot(*zip(*mine), marker=marker, color=color, linestyle="", label=way)
    for task, megabytes in dict.fromkeys((r.name.rpartition("/")[0], megabytes_of(r)) for r in points):
        axes.axvline(megabytes, color="#ccc", linewidth=0.8, zorder=0)
        axes.text(megabytes, 1.01, task, transform=axes.get_xaxis_transform(), rotation=35, fontsize=8)
    axes.set(xscale="log", yscale="log", ylabel=f"GB/s on {rows[-1].machine}")
    axes.set_xlabel(f"MB that any implementation must move (the records hold no FLOPs){unequal}")
    legend_below(figure)
    return figure


def roof_of(points: Sequence[Record]) -> list[tuple[float, float]]:
    """[(MB, GB/s of the plain copy of as many bytes)] in order of size, for the tasks that have one."""
    copies: dict[float, list[float]] = defaultdict(list)
    for row in points:
        if row.fields.get("copy_gb_per_s"):
            copies[megabytes_of(row)].append(row.fields["copy_gb_per_s"])
    return [(megabytes, median(found)) for megabytes, found in sorted(copies.items())]


def way_of(row: Record) -> str:
    """kernels/distillation/both/fused -> fused"""
    return row.name.rpartition("/")[2]


def megabytes_of(row: Record) -> float:
    return row.fields["least_bytes"] / 1e6


def gb_per_s_of(row: Record) -> float:
    """Bytes that the task must move, over the median time; a kernel that moves more bytes than that gets no credit."""
    return row.fields["least_bytes"] / (row.value or 0.0) / 1e6
