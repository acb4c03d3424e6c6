"""The tables of a data set against the counts of dataset.json, the columns of the format and each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from shards.duplicates import HASH_BITS, KINDS
from shards.errors import BadData
from shards.places import Place
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.repeats import repeated
from shards.tables import batches, count_values, gather, row_count, rows
from shards.walk import Finding


def check_readable(folder: Place, dataset: dict[str, Any]) -> list[Finding]:
    """Every table has the columns of the format, can be decoded to its end and has no nulls."""
    findings = []
    for name in dataset["tables"]:
        nulls: Counter[str] = Counter()
        try:
            for batch in batches(folder, name):
                nulls.update({column: batch[column].null_count for column in batch.schema.names})
        except BadData as error:
            findings.append(Finding(name, "table", "one of the format", error.came))
        findings += [Finding(name, f"nulls in {column}", 0, count) for column, count in nulls.items() if count]
    return findings


def check_content(folder: Place, dataset: dict[str, Any]) -> list[Finding]:
    """Rows and reasons add up to the counts, no product is there twice, duplicates name photographs that are there."""
    findings = [*_counts(folder, dataset), *_repeated_products(folder)]
    if "duplicates.parquet" in dataset["tables"]:
        findings += _duplicates(folder)
    return findings


def _counts(folder: Place, dataset: dict[str, Any]) -> Iterator[Finding]:
    counts, reasons = dataset["counts"], count_values(folder, "rejected.parquet", "reason")
    images = {reason: reasons[reason] for reason in IMAGE_REASONS if reasons[reason]}
    products = {reason: reasons[reason] for reason in PRODUCT_REASONS if reasons[reason]}
    others = reasons.keys() - images.keys() - products.keys()
    for file, what, expected, found in (
        ("images.parquet", "rows", counts["images_written"], row_count(folder, "images.parquet")),
        ("products.parquet", "rows", counts["products"], row_count(folder, "products.parquet")),
        ("rejected.parquet", "rejected images by reason", counts["images_rejected"], images),
        ("rejected.parquet", "rejected products by reason", counts["products_rejected"], products),
        ("rejected.parquet", "reasons that are not in the list", [], sorted(others)),
    ):
        if expected != found:
            yield Finding(file, what, expected, found)


def _repeated_products(folder: Place) -> Iterator[Finding]:
    def keys() -> Iterator[pa.Array]:
        return (batch["key"] for batch in batches(folder, "products.parquet", ["key"]))

    for row, first in repeated(keys):
        yield Finding("products.parquet", f"key of row {row}", "no other product's", f"that of row {first}")


def _duplicates(folder: Place) -> Iterator[Finding]:
    """Both photographs of each row are there, the original before the other; exact ones agree in crc32 and size.

    Memory grows with the rows of duplicates.parquet, which are few.
    """
    found = list(rows(folder, "duplicates.parquet"))
    products = _named_products(folder, {row[column] for row in found for column in ("key", "of_key")})
    images = {(key, view) for row in found for key, view in _pair(row)}
    total = row_count(folder, "images.parquet")
    places = {}
    for key, view in images:
        first, count = products.get(key, (0, 0))
        if 0 <= view < count and 0 <= first + view < total:
            places[key, view] = first + view
    wanted = np.unique(np.fromiter(places.values(), np.int64, len(places)))
    sums = gather(folder, "images.parquet", ["crc32", "size"], wanted)
    contents = dict(zip(wanted.tolist(), sums.to_pylist(), strict=True))
    for number, row in enumerate(found):
        photograph, original = (places.get(pair) for pair in _pair(row))
        if photograph is None or original is None:
            fault = "a photograph that is not in images.parquet"
        else:
            fault = _duplicate_fault(row, photograph, original, contents[photograph] == contents[original])
        if fault:
            expected = "a photograph and an earlier one that it looks like"
            yield Finding("duplicates.parquet", f"row {number}", expected, fault, row["key"])


def _pair(row: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    return (row["key"], row["view"]), (row["of_key"], row["of_view"])


def _named_products(folder: Place, keys: set[str]) -> dict[str, tuple[int, int]]:
    """Key -> (first image row, images) of the products with one of ``keys``."""
    found = {}
    for batch in batches(folder, "products.parquet", ["key", "first_image", "images"]):
        columns = [batch[name].to_pylist() for name in batch.schema.names]
        found.update({key: (first, images) for key, first, images in zip(*columns, strict=True) if key in keys})
    return found


def _duplicate_fault(row: dict[str, Any], photograph: int, original: int, equal: bool) -> str:
    if row["kind"] not in KINDS:
        return f"kind {row['kind']!r}, allowed {', '.join(KINDS)}"
    if original >= photograph:
        return f"an original that is not earlier: image rows {original} and {photograph}"
    if row["kind"] == "exact":
        return "" if equal and row["distance"] == 0 else "an exact one that differs in crc32, size or distance"
    within = row["key"] == row["of_key"] and 0 <= row["distance"] <= HASH_BITS
    return "" if within else "a near one of another product or with an impossible distance"
