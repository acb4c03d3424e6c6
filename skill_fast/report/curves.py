"""Curves of a run as inline SVG, drawn from metrics.jsonl without any plotting library."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 28, 26
COLORS = ("#1f5fa8", "#c2571a")
MAX_POINTS = 600

Points = list[tuple[float, float]]

CHARTS: dict[str, dict[str, str]] = {
    "Loss": {"loss": "loss"},
    "Teacher entropy and KL, nats": {"teacher_entropy": "teacher entropy", "kl": "KL(teacher, student)"},
    "Throughput, products/s": {"products_per_s": "products/s"},
    "Step and wait for data, ms": {"step_ms": "step", "data_wait_ms": "wait for data"},
}
"""Title -> key of metrics.jsonl -> its name in the legend."""


def read_metrics(path: Path) -> tuple[list[dict[str, float]], int]:
    """The objects of a metrics.jsonl and how many lines are none (a run that was killed ends in half a line)."""
    rows, broken = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), (int, float)):
            rows.append(row)
        elif line.strip():
            broken += 1
    return rows, broken


def series(rows: Sequence[Mapping[str, float]], key: str) -> Points:
    """(step, value) of the finite values of ``key``, thinned to at most 600 points; the last one stays."""
    points = [(float(row["step"]), float(row[key])) for row in rows if _is_number(row.get(key))]
    stride = -(-len(points) // MAX_POINTS)
    return points if stride <= 1 else points[(len(points) - 1) % stride :: stride]


def chart(title: str, lines: Mapping[str, Points]) -> str:
    """One chart: name in the legend -> points, against the step; "" if no line has a point."""
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    every = [point for points in lines.values() for point in points]
    x_ticks = ticks(min(x for x, _ in every), max(x for x, _ in every))
    y_ticks = ticks(min(y for _, y in every), max(y for _, y in every))
    x_low, x_high = _range([*x_ticks, *(x for x, _ in every)])
    y_low, y_high = _range([*y_ticks, *(y for _, y in every)])

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>']
    for y in y_ticks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" class="tick end">{y:g}</text>')
    for x in x_ticks:
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - 8}" class="tick middle">{x:g}</text>')
    for place, (name, points) in enumerate(lines.items()):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        color = COLORS[place % len(COLORS)]
        if len(points) == 1:
            x, y = points[0]
            parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="2.5" fill="{color}"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
        if len(lines) > 1:
            legend = WIDTH - RIGHT, 16 + 14 * place
            place_of = f'x="{legend[0]}" y="{legend[1]}" class="tick end" style="fill:{color}"'
            parts.append(f"<text {place_of}>{escape(name)}</text>")
    label = escape(f"{title} against the step", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from within [low, high], roughly ``about`` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
