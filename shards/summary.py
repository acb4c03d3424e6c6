"""What a data set holds, in numbers: for ``skill-shards info`` and at the end of a build."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from shards.build import Progress
from shards.index import read_dataset

LABELS = ("product_type", "color", "pattern", "split")
SHOWN_VALUES = 8


def summarize(folder: Path) -> dict[str, Any]:
    """dataset.json under "dataset", and under "labels" the products a value of each label, most frequent first.

    Further: "variant_groups" with two or more products, "photographs_per_product" (count -> products), "image_side"
    (smallest, median, largest long side in pixels), "bytes" of all shards.
    """
    dataset = read_dataset(folder)
    products = pq.read_table(folder / "products.parquet")
    images = pq.read_table(folder / "images.parquet", columns=["height", "width"])
    long_sides = pc.max_element_wise(images["height"], images["width"])
    groups = Counter(group for group in products["variant_group"].to_pylist() if group)
    return {
        "dataset": dataset,
        "labels": {name: dict(Counter(products[name].to_pylist()).most_common()) for name in LABELS},
        "variant_groups": sum(count > 1 for count in groups.values()),
        "photographs_per_product": {
            str(count): number for count, number in sorted(Counter(products["images"].to_pylist()).items())
        },
        "image_side": [
            int(value) for value in pc.quantile(long_sides, [0, 0.5, 1], interpolation="nearest").to_pylist()
        ],
        "bytes": sum(shard["bytes"] for shard in dataset["shards"]),
    }


def print_build(console: Console, folder: Path, dataset: dict[str, Any], done: Progress, seconds: float) -> None:
    """The end of a build: what was written, what was not and why, with an example a reason."""
    counts = dataset["counts"]
    size = sum(shard["bytes"] for shard in dataset["shards"])
    console.print(
        f"{folder}: {counts['products']:,} products, {counts['images_written']:,} images, "
        f"{len(dataset['shards'])} shards, {size / 2**20:,.1f} MiB, "
        f"{counts['images_seen'] / max(seconds, 1e-9):,.0f} images/s"
    )
    rejected = counts["images_rejected"] | counts["products_rejected"]
    if rejected:
        table = Table("rejected", "count", "first case", box=None, pad_edge=False)
        for reason, count in rejected.items():
            table.add_row(reason, f"{count:,}", done.examples.get(reason, ""))
        console.print(table)
        console.print(f"all of them, with details: {folder / 'rejected.parquet'}")


def print_summary(console: Console, folder: Path, summary: dict[str, Any]) -> None:
    dataset, counts = summary["dataset"], summary["dataset"]["counts"]
    low, median, high = summary["image_side"]
    table = Table(show_header=False, box=None, pad_edge=False, title=str(folder), title_justify="left")
    table.add_row("built from", ", ".join(f"{name} {value}" for name, value in dataset["options"].items()))
    table.add_row("products", f"{counts['products']:,}, {summary['variant_groups']:,} variant groups of two or more")
    table.add_row("images", f"{counts['images_written']:,} written of {counts['images_seen']:,} seen")
    rejected = counts["images_rejected"] | counts["products_rejected"]
    table.add_row("rejected", _counted(rejected) or "none")
    table.add_row("per product", _counted(summary["photographs_per_product"], "{1:,} with {0}"))
    table.add_row("long side", f"{low} to {high} px, median {median}")
    table.add_row("shards", f"{len(dataset['shards'])}, {summary['bytes'] / 2**20:,.1f} MiB")
    for name, values in summary["labels"].items():
        table.add_row(name, _counted({value or "(unknown)": count for value, count in values.items()}))
    table.add_row("fingerprint", dataset["fingerprint"])
    console.print(table)


def _counted(values: dict[str, int], form: str = "{0} {1:,}") -> str:
    shown = [form.format(value, count) for value, count in list(values.items())[:SHOWN_VALUES]]
    more = len(values) - SHOWN_VALUES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
