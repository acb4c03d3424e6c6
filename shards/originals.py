"""The photographs of some products as they came, found by going through the catalogue that they were built from."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from shards.decode import decode
from shards.errors import BadData
from shards.finished import noted_of
from shards.normalize import Normalization
from shards.places import Place
from shards.reading import read_photograph
from shards.rejects import OF_PIXELS, Rejected
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.drawing import Drawing, draw
from shards.sources.product import Catalogue, Photograph, Product, name_of
from shards.tables import rows


class Original(NamedTuple):
    photograph: Photograph
    reason: str
    """Why it is not in the data set; "" where it is."""


def find_originals(
    folder: Place, options: dict[str, Any], product_ids: Sequence[str], source: str, format: str | None = None
) -> dict[str, list[Original]]:
    """The photographs of ``product_ids`` in ``source``, in the catalogue's order; it is read until all are found.

    options: of dataset.json, whose demo is drawn again and whose rule for doubled ids holds. Raises BadData where a
    product is not in the source.
    """
    wanted = set(product_ids)
    catalogue = _open(source, format or choose_format(source), options)
    rejected = _rejected(folder, wanted)
    here = os.fsencode(source).decode("utf-8", "backslashreplace")
    found: dict[str, list[Original]] = {}
    for entry in catalogue.entries:
        if isinstance(entry, Product) and entry.product_id in wanted:
            reasons = rejected[entry.product_id]
            names = [name_of(photograph) for photograph in entry.photographs]
            found[entry.product_id] = [
                Original(photograph, reasons.get(name) or reasons.get(_within(name, here), ""))
                for photograph, name in zip(entry.photographs, names, strict=True)
            ]
            if len(found) == len(wanted):
                return found
    missing = sorted(wanted - found.keys())
    raise BadData(
        f"'{source}' has no product '{missing[0]}'{f', nor {len(missing) - 1} others' if len(missing) > 1 else ''}",
        allowed="the source that the data set was built from",
        change="check the path and --format",
    )


def show_original(photograph: Photograph, side: int) -> Image.Image | str:
    """The upright photograph as RGB with at least ``side`` pixels where it has them, or why it can not be shown."""
    if isinstance(photograph, Drawing):
        return draw(photograph)
    limits = Normalization()
    try:
        return decode(read_photograph(photograph, limits.max_file_bytes), side, limits.max_pixels)
    except Rejected as rejected:
        return rejected.reason


def _open(source: str, format: str, options: dict[str, Any]) -> Catalogue:
    drawn = options.get("demo", {}) if format == "demo" else {}
    return open_catalogue(source, format, on_duplicate=options.get("on_duplicate", "error"), **drawn)


def _rejected(folder: Place, wanted: set[str]) -> dict[str, dict[str, str]]:
    """Product -> path, as it is listed and as it lies within the source -> why that photograph was left out."""
    there = str(noted_of(folder).get("source", ""))
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows(folder, "rejected.parquet"):
        if row["product_id"] in wanted and row["reason"] in OF_PIXELS:
            reasons = found[row["product_id"]]
            reasons[row["image_path"]] = row["reason"]
            if there:
                reasons.setdefault(_within(row["image_path"], there), row["reason"])
    return found


def _within(name: str, source: str) -> str:
    """A photograph's name below its source's folder, or that of its manifest; as it is where it lies elsewhere.

    The source may have been named otherwise by the build (relative, absolute), or lie elsewhere since.
    """
    path, root = PurePosixPath(name), PurePosixPath(source)
    return next((str(path.relative_to(base)) for base in (root, root.parent) if path.is_relative_to(base)), name)
