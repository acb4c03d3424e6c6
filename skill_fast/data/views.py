"""What a method asks of the loader: which photograph each view shows, how large, under which generic augmentation.

A method names its views; the loader carries them out and knows no method. Views of one resolution form a group and
leave the loader as one tensor [views, batch, 3, size, size].
"""

from __future__ import annotations

from dataclasses import dataclass, field


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

    @property
    def views(self) -> int:
        return len(self.photographs)
