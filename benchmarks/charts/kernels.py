"""The kernels under the roof that memory sets."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.charts.throughput import THEIRS

WAYS = {"fused": ("#0b6e4f", "o"), "compiled": ("#c9a227", "s"), "reference": (THEIRS, "^")}
OTHERS = ("#b56576", "v")


def roofline(records: Sequence[Record]) -> Figure | None:
    """GB/s at which each contender moves the least bytes of its task, over those bytes; the roof is the run's copy."""
    rows = newest_run(r for r in records if r.kind == "kernels")
    points = [r for r in rows if r.value and r.fields.get("least_bytes")]
    roof = [r.fields["gb_per_s"] for r in rows if r.what == "kernels/copy"]
    if not points or not roof:
        return None
    figure = Figure(figsize=(9, 4.6))
    axes = figure.subplots()
    axes.axhline(roof[-1], color="#c44536", label=f"plain copy: {roof[-1]:,.0f} GB/s")
    seen = set()
    for row in points:
        way = row.name.rpartition("/")[2]
        color, marker = WAYS.get(way, OTHERS)
        label = None if way in seen else way
        seen.add(way)
        megabytes, gb_per_s = row.fields["least_bytes"] / 1e6, gb_per_s_of(row)
        axes.plot(megabytes, gb_per_s, marker=marker, color=color, linestyle="", label=label)
        if way == "fused":
            axes.annotate(f" {row.name.rpartition('/')[0]}", (megabytes, gb_per_s), fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="MB that must be moved", ylabel=f"GB/s on {rows[-1].machine}")
    axes.legend(fontsize=8)
    return figure


def gb_per_s_of(row: Record) -> float:
    """Bytes that the task must move, over the median time; a kernel that moves more bytes than that gets no credit."""
    return row.fields["least_bytes"] / (row.value or 0.0) / 1e6
