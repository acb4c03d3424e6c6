"""What a method asks of the loader: which photograph each view shows, how large, under which generic augmentation.

A method names its views; the loader carries them out and knows no method. Views of one resolution form a group and
leave the loader as one tensor [views, batch, 3, size, size].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

Part = tuple[float, float, float, float]
"""(top, left, bottom, right) of a part of the photograph, as shares of its height and width."""
WHOLE: Part = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class GenericAugmentation:
    """G of the method: colour, blur and flip, with the probability that each is applied (SkiLL section 3.2)."""

    flip_p: float = 0.5
    jitter_p: float = 0.8
    brightness: float = 0.4
    """Factor drawn from U(1 - b, 1 + b); contrast and saturation alike."""
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    """Share of a full turn: the angle is drawn from U(-hue, hue) x 360 degrees."""
    gray_p: float = 0.5
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Pixels of the finished crop."""
    solarize_p: float = 0.0


@dataclass(frozen=True)
class ViewGroup:
    """Views of one resolution: one entry of ``photographs`` a view, 0 for x' and 1 for x''."""

    name: str
    photographs: tuple[int, ...]
    size: int
    """Side of the crop in pixels."""
    scale: tuple[float, float]
    """Share of the photograph's area that a crop covers."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop window."""
    generic: GenericAugmentation = field(default_factory=GenericAugmentation)
    parts: tuple[Part, ...] = ()
    """Which part of its photograph each view is cut from, one entry a view; empty: the whole for all."""

    @property
    def views(self) -> int:
        return len(self.photographs)

    def part(self, view: int) -> Part:
        return self.parts[view] if self.parts else WHOLE


@dataclass(frozen=True)
class GroupBatches:
    """Batches of variant groups instead of single photographs: P groups x ``products`` of each, one photograph each."""

    products: int = 2
    """K: products of a variant group that stand together in a batch."""


@dataclass(frozen=True)
class ViewsConfig:
    """The crops of one sample; global crops are as large as ``backbone.image_size``."""

    global_scale: tuple[float, float] = (0.4, 1.0)
    """Share of the photograph's area."""
    local_crops: int = 8
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    photographs: Literal["two", "one"] = "two"
    """Global crops from two photographs of the product, or both from one: the ablation."""
    generic: GenericAugmentation = field(default_factory=GenericAugmentation)
    second_blur_p: float | None = None
    """Blur of the second global crop, where it is not that of the first (DINO, BYOL: 0.1 beside 1.0)."""
    second_solarize_p: float | None = None
    """Solarize of the second global crop (DINO, BYOL: 0.2 beside 0)."""
    local_blur_p: float | None = None
    """Blur of the local crops (DINO: 0.5)."""

    def global_groups(self, size: int, *, one_photograph: bool = False) -> tuple[ViewGroup, ...]:
        """The two global crops: one group, or two where the second one is augmented in another way."""
        second = 0 if one_photograph or self.photographs == "one" else 1
        other = self._generic(self.second_blur_p, self.second_solarize_p)
        if other == self.generic:
            return (ViewGroup("global", (0, second), size, self.global_scale, generic=self.generic),)
        return (
            ViewGroup("global", (0,), size, self.global_scale, generic=self.generic),
            ViewGroup("global_2", (second,), size, self.global_scale, generic=other),
        )

    def local_groups(self) -> tuple[ViewGroup, ...]:
        """The local crops, all from x'; nothing where there are none."""
        if not self.local_crops:
            return ()
        generic = self._generic(self.local_blur_p, None)
        return (ViewGroup("local", (0,) * self.local_crops, self.local_size, self.local_scale, generic=generic),)

    def _generic(self, blur_p: float | None, solarize_p: float | None) -> GenericAugmentation:
        generic = self.generic
        return replace(
            generic,
            blur_p=generic.blur_p if blur_p is None else blur_p,
            solarize_p=generic.solarize_p if solarize_p is None else solarize_p,
        )


def global_crops(crops: Mapping[str, Tensor]) -> Tensor:
    """Both global crops of ``ViewsConfig.global_groups`` as one tensor [2, batch, 3, size, size]."""
    return torch.cat([crops["global"], crops["global_2"]]) if "global_2" in crops else crops["global"]
