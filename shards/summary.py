"""What a data set holds, in numbers: for ``skill-shards info`` and at the end of a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

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


def build_lines(folder: Path, dataset: dict[str, Any], done: Progress, seconds: float) -> Iterator[str]:
    """The end of a build: what was written, what was not and why, with an example a reason."""
    counts = dataset["counts"]
    size = sum(shard["bytes"] for shard in dataset["shards"])
    yield (
        f"{folder}: {_number(counts['products'], 'product')}, {_number(counts['images_written'], 'image')}, "
        f"{_number(len(dataset['shards']), 'shard')}, {size / 2**20:,.1f} MiB, "
        f"{counts['images_seen'] / max(seconds, 1e-9):,.0f} images/s"
    )
    rejected = counts["images_rejected"] | counts["products_rejected"]
    for reason, count in rejected.items():
        yield f"  rejected {count:>6,}  {reason:<18} {done.examples.get(reason, '')}"
    if rejected:
        yield f"  all of them, with details: {folder / 'rejected.parquet'}"


def summary_lines(folder: Path, summary: dict[str, Any]) -> Iterator[str]:
    dataset, counts = summary["dataset"], summary["dataset"]["counts"]
    low, median, high = summary["image_side"]
    rejected = counts["images_rejected"] | counts["products_rejected"]
    lines = {
        "data set": str(folder),
        "built from": ", ".join(f"{name} {value}" for name, value in dataset["options"].items()),
        "products": f"{counts['products']:,}, {summary['variant_groups']:,} variant groups of two or more",
        "images": f"{counts['images_written']:,} written of {counts['images_seen']:,} seen",
        "rejected": _counted(rejected) or "none",
        "per product": _counted(summary["photographs_per_product"], "{1:,} with {0}"),
        "long side": f"{low} to {high} px, median {median}",
        "shards": f"{len(dataset['shards'])}, {summary['bytes'] / 2**20:,.1f} MiB",
    }
    for name, values in summary["labels"].items():
        lines[name] = _counted({value or "(unknown)": count for value, count in values.items()})
    lines["fingerprint"] = dataset["fingerprint"]
    yield from (f"{name:<13} {value}" for name, value in lines.items())


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _counted(values: dict[str, int], form: str = "{0} {1:,}") -> str:
    shown = [form.format(value, count) for value, count in list(values.items())[:SHOWN_VALUES]]
    more = len(values) - SHOWN_VALUES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
