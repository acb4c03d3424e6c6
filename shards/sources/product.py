"""The product: what every catalogue adapter yields and the only thing that the builder knows of a catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.rejects import Reject
from shards.sources.drawing import Drawing

Photograph = Path | Drawing
"""Where the pixels of one photograph come from: a file, or what is to be drawn."""


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


@dataclass(frozen=True)
class Catalogue:
    """An opened source: its products in order, mixed with the rows that could not be read as one."""

    entries: Iterable[Product | Reject]
    images: int
    """Photographs to be seen, rejects included; for the time left."""
    options: dict[str, int] = field(default_factory=dict)
    """What beside the source itself decides its content, for dataset.json."""
