"""An evaluation as two short tables: a row per embedding, the trained encoder first and its controls below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 100
"""Columns where the output is no terminal."""

ENTROPY_BESIDE = (
    ("entropy\nby size", "color/clusters/size_weighted"),
    ("entropy\n/ ln n", "color/clusters/normalised"),
    ("entropy\nof 10-NN", "color/nearest"),
    ("10-NN\nfloor", "color/nearest_floor"),
)
"""The headline's variants: weighted by cluster size, divided by ln(colours present), over each product's neighbours."""

Column = tuple[str, Callable[[Mapping[str, float]], str]]
"""Heading, and a row's scores -> its cell."""


def knn_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """Accuracy per attribute."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    for name in first:
        if name.startswith("knn/") and name.endswith("/accuracy"):
            yield name.removeprefix("knn/").removesuffix("/accuracy"), _cell(name)


def knn_rows(result: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The rows of the kNN table: every embedding, then what always naming the most frequent class would reach."""
    rows: dict[str, Mapping[str, float]] = dict(result["rows"])
    first: Mapping[str, float] = next(iter(rows.values()), {})
    attributes = [name.removesuffix("/majority") for name in first if name.endswith("/majority")]
    rows["(most frequent class)"] = {f"{name}/accuracy": first[f"{name}/majority"] for name in attributes}
    return rows


def probed(scores: Mapping[str, float]) -> list[str]:
    """The attributes that were probed; an attribute's name may hold a slash."""
    found = [name for name in scores if name.startswith("probe/") and name.endswith("/majority")]
    return [name.removeprefix("probe/").removesuffix("/majority") for name in found]


def probe_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """Accuracy, R@90 and R@95 of both probes, attribute by attribute."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    for attribute in probed(first):
        for kind, short in (("linear", "linear"), ("nonlinear", "non-lin.")):
            for score, heading in (("accuracy", "Acc"), ("recall@90", "R@90"), ("recall@95", "R@95")):
                yield f"{attribute}\n{short}\n{heading}", _cell(f"probe/{attribute}/{kind}/{score}")


def variant_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """The grouping's scores; CGacc names its mode."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    for name in first:
        plain = not name.endswith(("_low", "_high")) and name.split("/")[1] not in ("groups", "products", "validation")
        if name.startswith("variants/") and plain:
            yield name.removeprefix("variants/").replace("_", "\n"), _cell(name)


def orientation_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """Mean cosine of each turn to the upright photograph, then the two controls, then how often it is found again."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    for ending, word in (("/similarity", "cos"), ("/recall@1", "R@1")):
        for name in first:
            if name.startswith("orientation/") and name.endswith(ending):
                turn = name.removeprefix("orientation/").removesuffix(ending)
                yield turn.replace("_", "\n") + f"\n{word}", _cell(name)


def retrieval_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """Same product recall@1, same design in another colour recall@1 and @5."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    for heading, name in (
        ("same\nproduct\nR@1", "retrieval/same_product/recall@1"),
        ("other\ncolour\nR@1", "retrieval/other_color/recall@1"),
        ("other\ncolour\nR@5", "retrieval/other_color/recall@5"),
    ):
        if name in first:
            yield heading, _cell(name)


def color_columns(result: Mapping[str, Any]) -> Iterator[Column]:
    """The entropy with its interval between floor and ceiling, and all that METHOD puts beside it."""
    first: Mapping[str, float] = next(iter(result["rows"].values()), {})
    if "color/clusters/mean" not in first:
        return
    yield "colour\nentropy", _cell("color/clusters/mean")
    yield "floor to\nceiling", _range_cell("color/floor/mean", "color/ceiling/mean")
    for name in first:
        if name.startswith("color/design/") and name.endswith(("/purity", "/nmi")):
            label, part = name.removeprefix("color/design/").rsplit("/", 1)
            heading = "purity" if part == "purity" else "NMI"
            yield f"{label.replace('variant_group', 'design')}\n{heading}", _cell(name)
    yield "entropy\n95 %", _range_cell("color/clusters/mean_low", "color/clusters/mean_high")
    for heading, name in ENTROPY_BESIDE:
        yield heading, _cell(name)


def color_rows(result: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The rows of the second table: every embedding, then clusters of the same sizes filled at random."""
    rows: dict[str, Mapping[str, float]] = dict(result["rows"])
    first: Mapping[str, float] = next(iter(rows.values()), {})
    chance = {f"color/clusters/{part}": f"color/ceiling/{part}" for part in ("mean", "size_weighted", "normalised")}
    chance |= {name: f"{name}_by_chance" for name in first if name.endswith("/purity")}
    known = {name: control for name, control in chance.items() if control in first}
    if known:
        scores = list(result["rows"].values())
        rows["(by chance)"] = {
            name: sum(each[control] for each in scores) / len(scores) for name, control in known.items()
        }
    return rows


def widen_plain(console: Console, columns: int = PLAIN_WIDTH) -> None:
    """Where the output is no terminal nobody sees its width: no line of ``columns`` or less is clipped for it."""
    if not console.is_terminal:
        console.width = max(console.width, columns)


def print_table(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``evaluate`` returned; scores that are absent are listed with their reasons."""
    console = console or Console()
    widen_plain(console)
    knn, others = list(knn_columns(result)), [*retrieval_columns(result), *color_columns(result)]
    if knn:
        _print_rows(console, f"kNN accuracy, k = {result['knn']['k']}, {result['protocol']}", knn, knn_rows(result))
    if probes := list(probe_columns(result)):
        _print_rows(console, "Probes on frozen embeddings", probes, result["rows"])
    if variants := list(variant_columns(result)):
        _print_rows(console, "Groups of colour variants", variants, result["rows"])
    if turns := list(orientation_columns(result)):
        _print_rows(console, "Turned and mirrored photographs", turns, result["rows"])
    if others:
        _print_rows(console, "Retrieval and colour", others, color_rows(result))
    counts = f"{result['products']} products, {result['photographs']} photographs"
    notes = [f"split {result['split']}: {counts}, pooling {result.get('pooling', 'class')}"]
    if any("entropy" in heading for heading, _ in others):
        notes.append(
            "Colour entropy in nats: higher is more colour-agnostic, and worth what the purity beside it says."
        )
    if variants and "variants" in result:
        notes.append(f"Threshold of the colour variants chosen on {result['variants']['validation']}.")
    if any(name.endswith("_low") for name in next(iter(result["rows"].values()), {})):
        notes.append("95 % intervals of all scores: NAME_low and NAME_high in the file of --json.")
    notes += [f"no {name}: {reason}" for name, reason in result["absent"].items()]
    first = next(iter(result["rows"]), "")
    notes += [f"{name}: {how}" for name, how in result.get("approximations", {}).get(first, {}).items()]
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _print_rows(console: Console, title: str, columns: list[Column], rows: Mapping[str, Mapping[str, float]]) -> None:
    """One table, or several below each other where the console is too narrow for all columns."""
    console.print(title, style="bold", highlight=False)
    names = max(len(name) for name in rows)
    for group in _that_fit(columns, rows, console.width - names - 3):  # the name, its padding and both edges
        table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        table.add_column("embedding", no_wrap=True)
        for heading, _ in group:
            table.add_column(Text(heading), justify="right", no_wrap=True)
        for name, scores in rows.items():
            table.add_row(name, *(cell(scores) for _, cell in group))
        console.print(table)


def _that_fit(columns: list[Column], rows: Mapping[str, Mapping[str, float]], width: int) -> Iterator[list[Column]]:
    """Columns in order, as many at a time as ``width`` characters hold, at least one."""
    group: list[Column] = []
    left = width
    for heading, cell in columns:
        texts = [*heading.split("\n"), *(cell(scores) for scores in rows.values())]
        needed = max(len(text) for text in texts) + 2
        if group and needed > left:
            yield group
            group, left = [], width
        group.append((heading, cell))
        left -= needed
    if group:
        yield group


def _number(scores: Mapping[str, float], name: str, decimals: int = 3) -> str:
    return f"{scores[name]:.{decimals}f}" if name in scores else "-"


def _cell(name: str) -> Callable[[Mapping[str, float]], str]:
    return lambda scores: _number(scores, name)


def _range_cell(low: str, high: str) -> Callable[[Mapping[str, float]], str]:
    return lambda scores: f"{_number(scores, low, 2)}-{_number(scores, high, 2)}" if low in scores else "-"
