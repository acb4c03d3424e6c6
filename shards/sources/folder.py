"""A folder of photographs: root/[product_type/]product_id/*.jpg, in natural order (2 before 10)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.product import Catalogue, Product

_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2", ".j2k")
_EXACT = (".png", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
SUFFIXES = frozenset((*_LOSSY, *_EXACT))
LAYOUT = "root/product_id/*.jpg or root/product_type/product_id/*.jpg"


@dataclass(frozen=True)
class _Listing:
    """One folder's content in natural order, without hidden names."""

    images: list[str]
    folders: list[str]


def catalogue(root: Path) -> Catalogue:
    """List ``root``; a folder that holds photographs is a product, one that holds such folders a product type."""
    if not root.is_dir():
        raise BadData(
            f"folder '{root}' does not exist", allowed=f"a folder laid out as {LAYOUT}", change="check the path"
        )
    entries = list(_entries(root))
    images = sum(len(entry.photographs) if isinstance(entry, Product) else 1 for entry in entries)
    if not images:
        raise BadData(
            f"folder '{root}' holds no photographs",
            allowed=f"{LAYOUT}, with the suffixes {' '.join(sorted(SUFFIXES))}",
            change="check the path and the layout",
        )
    if not any(isinstance(entry, Product) and entry.photographs for entry in entries):
        raise BadData(
            f"no folder in '{root}' is a product: its {images} photographs lie at another depth",
            allowed=LAYOUT,
            change="give each product a folder of its own, or list the photographs in a manifest",
        )
    return Catalogue(entries, images)


def text_of(name: str | Path) -> str:
    """A file name as Unicode text: bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def natural_key(name: str) -> tuple:
    """Sort key in which numbers count by value: a2 < a10; ties are settled by the name itself."""
    # Splitting at a captured group gives text and numbers in turn, so that like is compared with like.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)], name


def _entries(root: Path) -> Iterator[Product | Reject]:
    top = _list(root)
    yield from _misplaced(root, top.images, "lies in the root, beside the products")
    places: dict[str, Path] = {}
    for name in top.folders:
        listing = _list(root / name)
        if listing.images or not listing.folders:
            yield _product(root / name, listing, "", places)
            yield from _beneath(root / name, listing)
            continue
        for inner in listing.folders:
            place = root / name / inner
            within = _list(place)
            yield _product(place, within, text_of(name), places)
            yield from _beneath(place, within)


def _list(folder: Path) -> _Listing:
    images, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                images.append(entry.name)
    return _Listing(sorted(images, key=natural_key), sorted(folders, key=natural_key))


def _product(folder: Path, listing: _Listing, product_type: str, places: dict[str, Path]) -> Product:
    product_id = text_of(folder.name)
    if product_id in places:
        raise BadData(
            f"the product id '{product_id}' is there twice: '{places[product_id]}' and '{folder}'",
            allowed="one folder a product id",
            change="rename one of the two, or move the photographs of both into one",
        )
    places[product_id] = folder
    return Product(product_id, tuple(folder / name for name in listing.images), product_type=product_type)


def _beneath(folder: Path, listing: _Listing) -> Iterator[Reject]:
    """The photographs in folders within a product's own; links to folders are not followed here, they may go round."""
    for name in listing.folders:
        for path, folders, files in os.walk(folder / name):
            folders.sort(key=natural_key)
            images = sorted((f for f in files if os.path.splitext(f)[1].lower() in SUFFIXES), key=natural_key)
            yield from _misplaced(Path(path), images, f"lies deeper than the product's folder '{text_of(folder)}'")


def _misplaced(folder: Path, images: list[str], why: str) -> Iterator[Reject]:
    for name in images:
        yield Reject("", text_of(folder / name), "outside_product", why)
