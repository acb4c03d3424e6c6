"""The product: what every catalogue adapter yields and the only thing that the builder knows of a catalogue."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from shards.rejects import Reject
from shards.sources.drawing import Drawing

if TYPE_CHECKING:
    from upath import UPath

Photograph: TypeAlias = "Path | UPath | Drawing"
"""Where the pixels of one photograph come from: a file, an object in storage, or what is to be drawn."""


@dataclass(frozen=True)
class Product:
    """One product in one colourway with its photographs, in the order of the catalogue; unknown labels are ""."""

    product_id: str
    photographs: tuple[Photograph, ...]
    product_type: str = ""
    color: str = ""
    pattern: str = ""
    variant_group: str = ""
    """Products that differ in colour only share it."""
    split: str = "train"
    attributes: dict[str, Any] = field(default_factory=dict)
    """Values that JSON can hold."""


def held_back(split: str) -> int:
    """How far from training a split is: 0 for train, 2 for test, 1 for any other, such as val."""
    return {"": 0, "train": 0, "test": 2}.get(split, 1)


@dataclass(frozen=True)
class Catalogue:
    """An opened source: its products in order, mixed with the rows that could not be read as one.

    Going through ``entries`` takes memory that does not grow with the catalogue.
    """

    entries: Iterable[Product | Reject]
    images: int
    """Photographs to be seen, rejects included; for the time left."""
    options: dict[str, Any] = field(default_factory=dict)
    """What beside the source itself decides its content, for dataset.json."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was decided while going through ``entries``, by name: merged_products, contradicting_labels. It is complete
    behind the last entry and starts anew when ``entries`` is gone through again."""
    gives_splits: bool = False
    """Whether both splits and variant groups come from the source, so that one may tear the other apart."""


def name_of(photograph: Photograph) -> str:
    """What a photograph is called in rejected.parquet; bytes of a file name that are no UTF-8 are written as \\xNN."""
    if isinstance(photograph, Drawing):
        return photograph.name
    return os.fsencode(str(photograph)).decode("utf-8", "backslashreplace")
