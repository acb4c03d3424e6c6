"""Waiting for data: in training, and what the loader alone gives at other settings and by other ways to feed it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.charts.throughput import plain_bars

LOADER_SETTINGS = ("threads", "prefetch", "hw_decoder_load", "workers")
FROM_DISK = "total"
"""The rows of train/* whose batches come from the loader; the others hold their batches and wait for nothing."""


def data_wait(records: Sequence[Record]) -> Figure | None:
    """Panels: the share of training that waited, %, with its loader's settings; the loader's sweep; ways to feed it."""
    trained = newest_run(r for r in records if r.kind == "train")
    waits = [r for r in trained if from_disk(r) and "data_wait_share" in r.fields]
    loaded = newest_run(r for r in records if r.kind == "loader")
    sweep = [r for r in loaded if swept(r) and r.value]
    sweep = sweep and [r for r in loaded if r.name == "ours" and r.value] + sweep
    feeds = [r for r in newest_run(r for r in records if r.kind == "feeding") if r.name.endswith("/rate") and r.value]
    panels = [rows for rows in (waits, sweep, feeds) if rows]
    if not panels:
        return None
    heights = [len(rows) for rows in panels]
    figure = Figure(figsize=(9, 0.36 * sum(heights) + 1.1 * len(panels)), layout="constrained")
    places = iter(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0])
    if waits:
        axes = next(places)
        held = [_loader_of(r) for r in waits]
        alike = len(set(held)) == 1
        shares = {
            row.name if alike or not about else f"{row.name} ({about})": 100 * row.fields["data_wait_share"]
            for row, about in zip(waits, held)
        }
        plain_bars(axes, shares, f"% of the time on {waits[-1].machine}")
        said = ["Training from disk", f"its loader in every row: {held[0]}" if alike and held[0] else ""]
        axes.set_title("\n".join(filter(None, [*said, *_left_out(trained)])), fontsize=9, loc="left")
    if sweep:
        axes = next(places)
        plain_bars(axes, {r.name: r.value or 0.0 for r in sweep}, f"products/s on {sweep[-1].machine}")
        axes.set_title("The loader alone, one setting changed", fontsize=9, loc="left")
    if feeds:
        axes = next(places)
        rates = {r.name.removesuffix("/rate"): r.value or 0.0 for r in feeds}
        plain_bars(axes, rates, f"products/s on {feeds[-1].machine}")
        axes.set_title("Ways to plan and read batches, nothing decoded", fontsize=9, loc="left")
    return figure


def from_disk(record: Record) -> bool:
    """train/total, batch 8"""
    return record.name.partition(", ")[0] == FROM_DISK


def swept(record: Record) -> bool:
    """loader/ours, prefetch 3: one setting of ours."""
    return any(record.name.startswith(f"ours, {setting} ") for setting in LOADER_SETTINGS)


def _loader_of(record: Record) -> str:
    """The settings of a row's loader that bear on the device it ran on."""
    held = record.fields.get("loader") or {}
    names = [name for name in LOADER_SETTINGS if name in held and (record.on_gpu or name != "hw_decoder_load")]
    return ", ".join(f"{name} {held[name]}" for name in names)


def _left_out(rows: Sequence[Record]) -> list[str]:
    """What of a run of train/* is not drawn, and why."""
    others = [r for r in rows if not from_disk(r)]
    failed = [r for r in rows if from_disk(r) and r.value is None]
    said = []
    if others:
        names = " and ".join(dict.fromkeys(r.name.partition(", ")[0] for r in others))
        said.append(f"left out: {len(others)} rows of {names} (their batches are held: no wait)")
    if failed:
        said.append(f"left out: {len(failed)} that could not run")
    return said
