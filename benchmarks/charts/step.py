"""What happens inside a training step: phases, data wait, the GPU's use, and what each lever brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.charts.throughput import OURS, THEIRS, times_as_fast

PHASES = {
    "data wait": "#c44536",
    "forward teacher": "#c9a227",
    "forward student": "#0b6e4f",
    "loss": "#7a5195",
    "backward": "#2f6690",
    "optimizer": "#81a4cd",
    "teacher": "#d98324",
    "gather": "#b56576",
}
"""In the order of a step, with their colours."""
LOADER_SETTINGS = ("hw_decoder_load", "prefetch", "threads", "workers")
MANY_ROWS = 16
NO_LEVERS = ("batch ", "model ", "ViT-")


def breakdown(records: Sequence[Record]) -> Figure | None:
    """A bar a row of train/*: its phases one after the other, ms; grey up to the median step."""
    rows = [r for r in newest_run(r for r in records if r.kind == "train") if r.fields.get("phases_ms")][:MANY_ROWS]
    if not rows:
        return None
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.6))
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        parts, left = phases_ms(row), 0.0
        for name, spent_ms in parts.items():
            axes.barh(place, spent_ms, left=left, color=PHASES.get(name, THEIRS))
            left += spent_ms
    used = dict.fromkeys(name for row in rows for name in phases_ms(row))
    for name in used:
        axes.barh(0, 0, color=PHASES.get(name, THEIRS), label=name)
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set_xlabel(f"ms a step on {rows[-1].machine}")
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=5, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.28 if len(rows) < 4 else -0.12))
    return figure


def phases_ms(row: Record) -> dict[str, float]:
    """Known phases in the order of a step, then others, then what is left of the median step, named "rest"."""
    given: Mapping[str, float] = row.fields["phases_ms"]
    named = {name: given[name] for name in PHASES if name in given}
    named |= {name: spent for name, spent in given.items() if name not in PHASES}
    rest = (row.fields.get("step_ms") or {}).get("p50", 0.0) - sum(named.values())
    return named | ({"rest": rest} if rest > 0 else {})


def data_wait(records: Sequence[Record]) -> Figure | None:
    """Left: data_wait_share, %, of train/* rows. Right: the loader's own sweep."""
    waits = [r for r in newest_run(r for r in records if r.kind == "train") if "data_wait_share" in r.fields]
    sweep = [r for r in newest_run(r for r in records if r.kind == "loader") if swept(r) and r.value]
    if not waits and not sweep:
        return None
    figure = Figure(figsize=(10, 0.4 * max(len(waits[:MANY_ROWS]), len(sweep)) + 1.6), layout="constrained")
    places = iter(figure.subplots(1, bool(waits) + bool(sweep), squeeze=False)[0])
    if waits:
        _bars(
            next(places),
            {r.name: 100 * r.fields["data_wait_share"] for r in waits[:MANY_ROWS]},
            "% of the step that waited",
        )
    if sweep:
        _bars(next(places), {r.name: r.value or 0.0 for r in sweep}, f"products/s on {sweep[-1].machine}")
    return figure


def swept(record: Record) -> bool:
    """loader/ours, prefetch 3: one setting of ours."""
    return any(record.name.startswith(f"ours, {setting} ") for setting in LOADER_SETTINGS)


def gpu_use(records: Sequence[Record]) -> Figure | None:
    """Utilisation of cores, memory and the JPEG engine over the newest train/total, and its power."""
    rows = [r for r in records if r.kind == "train" and r.fields.get("gpu_samples")]
    chosen = [r for r in rows if r.name == "total"] or rows
    if not chosen:
        return None
    samples: list[dict[str, Any]] = chosen[-1].fields["gpu_samples"]
    figure = Figure(figsize=(9, 4))
    percent, power = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label in (("sm_percent", "cores"), ("memory_percent", "memory"), ("nvjpg_percent", "JPEG engine")):
        _line(percent, samples, name, label)
    percent.set(ylim=(0, 105), ylabel="% of the time busy")
    percent.legend(ncols=3, fontsize=8)
    _line(power, samples, "power_w", "")
    power.set(ylabel="W", xlabel=f"s since the first sample; {chosen[-1].what} on {chosen[-1].machine}")
    return figure


def levers(records: Sequence[Record]) -> Figure | None:
    """How many times as fast as its base each row is in which one setting was changed; see ``ablation``."""
    rows = ablation(records)
    if not rows:
        return None
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1.4))
    axes = figure.subplots()
    _bars(axes, rows, "times as fast as the same run's base")
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


def _bars(axes: Any, rows: Mapping[str, float], label: str) -> None:
    for place, value in enumerate(reversed(rows.values())):
        axes.barh(place, value, color=OURS)
        axes.text(value, place, f" {value:,.3g}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.set_xlim(0, max([*rows.values(), 1e-9]) * 1.15)
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)


def _line(axes: Any, samples: Sequence[Mapping[str, Any]], name: str, label: str) -> None:
    """A reading over time, where this GPU gives it."""
    points = [(s["at_s"] - samples[0]["at_s"], s[name]) for s in samples if s.get(name) is not None]
    if points:
        axes.plot(*zip(*points), label=label)
