"""The options of a build that decide bytes: checked before anything is opened, and as dataset.json notes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shards.duplicates import KINDS
from shards.errors import BadUsage
from shards.normalize import PREPROCESS, Normalization
from shards.selection import Selection

MAX_SHARD_MIB = 1 << 20


@dataclass(frozen=True)
class BuildOptions:
    """What is to be built, beside the source: everything here but engine and workers decides bytes."""

    how: Normalization
    shard_mib: float
    selection: Selection
    drop_duplicates: tuple[str, ...]
    on_duplicate: str

    def noted(self, taken: str, catalogue_options: dict[str, Any]) -> dict[str, Any]:
        """As dataset.json has them."""
        options: dict[str, Any] = {
            "source_format": taken,
            "preprocess": self.how.preprocess,
            "max_side": self.how.max_side,
            "jpeg_quality": self.how.jpeg_quality,
            "shard_mib": self.shard_mib,
        }
        if catalogue_options:
            options[taken] = catalogue_options
        options |= self.selection.options()
        if self.drop_duplicates:
            options["drop_duplicates"] = list(self.drop_duplicates)
        if self.on_duplicate != "error":
            options["on_duplicate"] = self.on_duplicate
        return options


def checked_options(
    *,
    preprocess: str,
    max_side: int,
    jpeg_quality: int,
    shard_mib: float,
    crop_to_item: Sequence[str],
    drop_duplicates: Sequence[str],
    selection: Selection,
    on_duplicate: str,
) -> BuildOptions:
    """The arguments of ``build``, see there; raises BadUsage where one is not allowed."""
    chosen = BuildOptions(
        how=_normalization(preprocess, max_side, jpeg_quality),
        shard_mib=shard_mib,
        selection=replace(selection, crop_to_item=tuple(crop_to_item) or selection.crop_to_item),
        drop_duplicates=_kinds(drop_duplicates),
        on_duplicate=on_duplicate,
    )
    if not 0 < shard_mib < MAX_SHARD_MIB:
        raise BadUsage(f"shard_mib is {shard_mib}", allowed=f"more than 0, less than {MAX_SHARD_MIB:,}")
    return chosen


def _normalization(preprocess: str, max_side: int, jpeg_quality: int) -> Normalization:
    if preprocess not in PREPROCESS:
        raise BadUsage(f"unknown preprocess {preprocess!r}", allowed=", ".join(PREPROCESS))
    if not 16 <= max_side <= 8192:
        raise BadUsage(f"max_side is {max_side}", allowed="16 to 8192 pixels")
    if not 1 <= jpeg_quality <= 100:
        raise BadUsage(f"jpeg_quality is {jpeg_quality}", allowed="1 to 100")
    return Normalization(preprocess, max_side, jpeg_quality)


def _kinds(drop_duplicates: Sequence[str]) -> tuple[str, ...]:
    if unknown := [kind for kind in drop_duplicates if kind not in KINDS]:
        raise BadUsage(f"drop_duplicates has {', '.join(unknown)}", allowed=", ".join(KINDS))
    return tuple(kind for kind in KINDS if kind in drop_duplicates)
