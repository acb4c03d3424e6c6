"""What a data set holds, in numbers: for ``skill-shards info`` and at the end of a build."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from shards.counting import Progress
from shards.index import read_dataset
from shards.places import Place
from shards.rejects import BY_CHOICE
from shards.repeats import repeated_texts, with_several
from shards.tables import batches, count_values

LABELS = ("product_type", "color", "pattern", "split")
SHOWN_VALUES = 8
EXAMPLES = 3
"""Of each reason for a reject."""
NOTES = {
    "merged_products": ("product was", "products were", "united from several mentions"),
    "hidden_names": ("hidden file or folder", "hidden files or folders", "not looked at"),
    "columns_of_files": ("column or field of bytes", "columns or fields of bytes", "left out of the manifest"),
    "contradicting_labels": (
        "label",
        "labels",
        "contradicted another of the same product: the first counts, of splits the one furthest from train (test)",
    ),
}
"""What a source decided by itself: of one, of several, and what."""


def summarize(folder: Place) -> dict[str, Any]:
    """What ``info --json`` prints; docs/shard_format.md says what each value is.

    The tables are read in batches: memory grows with the different labels and 12 bytes a product, no more.
    Raises BadData where there is no readable dataset.json or a table is damaged.
    """
    dataset = read_dataset(folder)
    has_duplicates = "duplicates.parquet" in dataset["tables"]
    return {
        "dataset": dataset,
        "labels": {name: dict(count_values(folder, "products.parquet", name).most_common()) for name in LABELS},
        "variant_groups": _variant_groups(folder),
        "groups_in_several_splits": _groups_in_several_splits(folder),
        "photographs_per_product": _text_keys(count_values(folder, "products.parquet", "images")),
        **_images(folder),
        "bytes": sum(shard["bytes"] for shard in dataset["shards"]),
        "rejected": _rejected(folder),
        "duplicates": dict(count_values(folder, "duplicates.parquet", "kind")) if has_duplicates else None,
    }


def _variant_groups(folder: Place) -> int:
    """Groups of two or more products."""
    return repeated_texts(batch["variant_group"] for batch in batches(folder, "products.parquet", ["variant_group"]))


def _groups_in_several_splits(folder: Place) -> int:
    """Groups whose products are known to more than one split: what is learned of one helps with the others."""
    columns = ["variant_group", "split"]
    return with_several(
        (batch["variant_group"], batch["split"]) for batch in batches(folder, "products.parquet", columns)
    )


def _text_keys(counts: Counter[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(counts.items())}


def _images(folder: Place) -> dict[str, Any]:
    """Smallest, median and largest long side in pixels, and the bytes of all JPEGs."""
    sides, total = np.zeros(1, np.int64), 0
    for batch in batches(folder, "images.parquet", ["height", "width", "size"]):
        found = np.bincount(pc.max_element_wise(batch["height"], batch["width"]).to_numpy())
        sides = np.pad(sides, (0, max(0, len(found) - len(sides))))
        sides[: len(found)] += found
        total += pc.sum(batch["size"]).as_py()
    above = np.cumsum(sides)
    middle = [np.searchsorted(above, share, "right") for share in (0, (above[-1] - 1) // 2, above[-1] - 1)]
    return {"image_side": [int(side) for side in middle], "image_bytes": total}


def _rejected(folder: Place) -> dict[str, Any]:
    """Reason -> how many, and the first few."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, str]]] = defaultdict(list)
    for batch in batches(folder, "rejected.parquet"):
        for pair in pc.value_counts(batch["reason"]).to_pylist():
            reason = pair["values"]
            counts[reason] += pair["counts"]
            if (lacking := EXAMPLES - len(examples[reason])) > 0:
                own = batch.filter(pc.equal(batch["reason"], reason)).slice(0, lacking).drop_columns("reason")
                examples[reason] += own.to_pylist()
    return {reason: {"count": count, "examples": examples[reason]} for reason, count in counts.most_common()}


def build_lines(folder: Place, dataset: dict[str, Any], done: Progress, seconds: float) -> Iterator[str]:
    """The end of a build: what was written, what was not and why, with an example a reason."""
    return map(printable, _build_lines(folder, dataset, done, seconds))


def summary_lines(folder: Place, summary: dict[str, Any]) -> Iterator[str]:
    """The summary for people, a line a subject."""
    return map(printable, _summary_lines(folder, summary))


def printable(text: str) -> str:
    """``text`` with what a terminal would obey, or show in another order, as Python would write it.

    >>> printable("ty\\x1b[2Jpe")
    'ty\\\\x1b[2Jpe'
    """
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else ascii(letter)[1:-1]
        for letter in text
    )


def _build_lines(folder: Place, dataset: dict[str, Any], done: Progress, seconds: float) -> Iterator[str]:
    counts = dataset["counts"]
    size = sum(shard["bytes"] for shard in dataset["shards"])
    yield (
        f"{folder}: {_number(counts['products'], 'product')}, {_number(counts['images_written'], 'image')}, "
        f"{_number(len(dataset['shards']), 'shard')}, {size / 2**20:,.1f} MiB, "
        f"{(done.images_seen - done.resumed) / max(seconds, 1e-9):,.0f} images/s"
    )
    if done.resumed:
        yield f"  resumed: {_number(done.resumed, 'image')} had been done before"
    rejected = counts["images_rejected"] | counts["products_rejected"]
    for reason, count in rejected.items():
        word = "left out" if reason in BY_CHOICE else "rejected"
        yield f"  {word} {count:>6,}  {reason:<18} {done.examples.get(reason, '')}".rstrip()
    yield from (f"  {words}" for words in _noted(counts))
    if done.duplicates:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in done.duplicates.items())
        yield f"  look like others and were kept: {kinds}; listed in {folder / 'duplicates.parquet'}"
    if rejected:
        yield f"  all of them, with details: {folder / 'rejected.parquet'}"


def _summary_lines(folder: Place, summary: dict[str, Any]) -> Iterator[str]:
    dataset, counts = summary["dataset"], summary["dataset"]["counts"]
    low, median, high = summary["image_side"]
    lines = {
        "data set": str(folder),
        "built from": ", ".join(_options(dataset["options"])),
        "products": f"{counts['products']:,}, {summary['variant_groups']:,} variant groups of two or more",
        "images": f"{counts['images_written']:,} written of {counts['images_seen']:,} seen",
        "per product": _counted(summary["photographs_per_product"], "{1:,} with {0}"),
        "long side": f"{low} to {high} px, median {median}",
        "shards": f"{len(dataset['shards']):,}, {summary['bytes'] / 2**20:,.1f} MiB",
        "duplicates": "not recorded" if summary["duplicates"] is None else _counted(summary["duplicates"]) or "none",
    }
    for name, values in summary["labels"].items():
        lines[name] = _counted({value or "(unknown)": count for value, count in values.items()})
    if several := summary["groups_in_several_splits"]:
        lines["split leak"] = f"{_number(several, 'variant group')} in more than one split"
    lines["fingerprint"] = dataset["fingerprint"]
    lines["rejected"] = _counted({reason: found["count"] for reason, found in summary["rejected"].items()}) or "none"
    if noted := ", ".join(_noted(counts)):
        lines["noted"] = noted
    yield from (f"{name:<13} {value}" for name, value in lines.items())
    for reason, found in summary["rejected"].items():
        for example in found["examples"]:
            named = example["image_path"] or example["product_id"]
            yield f"  {reason:<18} {named}: {example['detail']}"


def _options(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if name == "merged_from":
            yield f"merged from {', '.join(fingerprint[:12] for fingerprint in value)}"
        elif name == "appended":
            yield from (f"appended {_number(part['products'], 'product')} of {part['source_format']}" for part in value)
        else:
            yield f"{name} {value}"


def _noted(counts: dict[str, Any]) -> Iterator[str]:
    for name, count in counts.get("notes", {}).items():
        one, several, what = NOTES.get(name, (name, name, ""))
        yield f"{count:,} {one if count == 1 else several} {what.format('was' if count == 1 else 'were')}".rstrip()


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _counted(values: dict[str, int], form: str = "{0} {1:,}") -> str:
    shown = [form.format(value, count) for value, count in list(values.items())[:SHOWN_VALUES]]
    more = len(values) - SHOWN_VALUES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
