"""What happens inside a training step: phases, the GPU's use, and what each lever brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.charts.throughput import legend_below, plain_bars, times_as_fast

PHASES = {
    "data": "#e63946",
    "forward teacher": "#e9c46a",
    "forward student": "#0b6e4f",
    "loss": "#7a5195",
    "center": "#f4a6c6",
    "backward": "#2f6690",
    "optimizer": "#7cc6fe",
    "teacher": "#d97b29",
    "gather": "#6b4226",
    "rest": "#9aa5b1",
}
"""As ``benchmarks.training.phases`` names them, in the order of a step, with their colours."""
UNKNOWN = "#000000"
NO_LEVERS = ("batch ", "model ", "ViT-")


def breakdown(records: Sequence[Record]) -> Figure | None:
    """A bar a row of train/*: its phases as measured, ms, one after the other; a mark at the median step.

    The phases are means of a few steps with marks in them, the median is of all the others: neither is a sum of the
    other, and both are shown.
    """
    rows = [r for r in newest_run(r for r in records if r.kind == "train") if r.fields.get("phases_ms")]
    if not rows:
        return None
    figure = Figure(figsize=(9, 0.45 * len(rows) + 1.8), layout="constrained")
    axes = figure.subplots()
    used = in_order(name for row in rows for name in row.fields["phases_ms"])
    for name in used:
        spent_ms = [row.fields["phases_ms"].get(name, 0.0) for row in rows]
        before_ms = [sum(row.fields["phases_ms"].get(n, 0.0) for n in used[: used.index(name)]) for row in rows]
        axes.barh(range(len(rows)), spent_ms, left=before_ms, color=PHASES.get(name, UNKNOWN), label=name)
    for place, row in enumerate(rows):
        if row.fields.get("step_ms"):
            at_ms, label = row.fields["step_ms"]["p50"], "" if place else "median step"
            axes.plot([at_ms, at_ms], [place - 0.45, place + 0.45], color="#1c1c1c", linewidth=2, label=label)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"ms a step on {rows[-1].machine}")
    axes.grid(axis="y", visible=False)
    legend_below(figure)
    return figure


def in_order(names: Iterable[str]) -> list[str]:
    """Known phases in the order of a step, then others."""
    given = dict.fromkeys(names)
    return [*(name for name in PHASES if name in given), *(name for name in given if name not in PHASES)]


def gpu_use(records: Sequence[Record]) -> Figure | None:
    """Utilisation of cores, memory and the JPEG engine over the newest train/total, and its power."""
    rows = [r for r in records if r.kind == "train" and r.fields.get("gpu_samples")]
    chosen = [r for r in rows if r.name == "total"] or rows
    if not chosen:
        return None
    samples: list[dict[str, Any]] = chosen[-1].fields["gpu_samples"]
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    percent, power = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label in (("sm_percent", "cores"), ("memory_percent", "memory"), ("nvjpg_percent", "JPEG engine")):
        _line(percent, samples, name, label)
    percent.set(ylim=(0, 105), ylabel="% of the time busy")
    _line(power, samples, "power_w", "")
    power.set(ylabel="W", xlabel=f"s since the first sample; {chosen[-1].what} on {chosen[-1].machine}")
    legend_below(figure)
    return figure


def levers(records: Sequence[Record]) -> Figure | None:
    """How many times as fast as its base each row is in which one setting was changed; see ``ablation``."""
    rows = ablation(records)
    if not rows:
        return None
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1.4))
    axes = figure.subplots()
    plain_bars(axes, rows, "times as fast as the same run's base")
    axes.axvline(1, color="#444", linewidth=0.8)
    return figure


def ablation(records: Sequence[Record]) -> dict[str, float]:
    """{what was changed: times as fast}: of the newest sweep of train/total, and of step/* beside step/base.

    Other batches and other models are no levers.
    """
    found: dict[str, float] = {}
    for kind, base_name in (("train", "total"), ("step", "base")):
        rows = newest_run(r for r in records if r.kind == kind and r.value)
        base = next((r for r in rows if r.name == base_name), None)
        for row in rows if base else ():
            changed = row.name.removeprefix("total, ")
            swept = changed != row.name if kind == "train" else row.name != base_name
            if swept and not changed.startswith(NO_LEVERS):
                found[f"{kind}: {changed}"] = times_as_fast(base, row)
    return found


def _line(axes: Any, samples: Sequence[Mapping[str, Any]], name: str, label: str) -> None:
    """A reading over time, where this GPU gives it."""
    points = [(s["at_s"] - samples[0]["at_s"], s[name]) for s in samples if s.get(name) is not None]
    if points:
        axes.plot(*zip(*points), label=label)
