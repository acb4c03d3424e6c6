"""Names of colours: a catalogue's own words mapped to about 20 names, a photograph's pixels to the 11 basic ones."""

from __future__ import annotations

import re

import torch
from torch import Tensor

CATALOGUE_NAMES: dict[str, str] = {
    "black": "black jet onyx ebony",
    "white": "white ivory snow offwhite alabaster",
    "grey": "grey gray charcoal graphite slate ash anthracite smoke heather",
    "silver": "silver steel chrome platinum nickel",
    "beige": "beige cream ecru sand taupe nude stone oatmeal natural champagne linen",
    "brown": "brown chocolate coffee mocha espresso walnut oak chestnut cognac cinnamon mahogany bronze",
    "tan": "tan camel caramel",
    "gold": "gold golden brass",
    "yellow": "yellow lemon mustard amber",
    "orange": "orange tangerine apricot rust copper terracotta",
    "red": "red scarlet crimson ruby cherry",
    "burgundy": "burgundy maroon wine bordeaux",
    "pink": "pink rose blush fuchsia magenta coral salmon peach",
    "purple": "purple violet lavender lilac plum mauve aubergine",
    "blue": "blue azure cobalt sky denim indigo royal",
    "navy": "navy midnight",
    "turquoise": "turquoise teal aqua cyan",
    "green": "green emerald mint lime sage forest",
    "olive": "olive khaki",
    "multicolour": "multicolour multicolor multi multicoloured multicolored rainbow assorted",
}
"""name -> the catalogue words that mean it; every other word is unknown."""

PHRASES = {
    "off white": "white",
    "navy blue": "navy",
    "rose gold": "gold",
    "wine red": "burgundy",
    "olive green": "olive",
}
_NAME_OF_WORD = {word: name for name, words in CATALOGUE_NAMES.items() for word in words.split()}

BASIC_COLORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((0, 0, 0), (38, 38, 40)),
    "white": ((255, 255, 255), (236, 236, 234)),
    "grey": ((128, 128, 128), (84, 84, 86), (178, 178, 178)),
    "red": ((204, 30, 36), (150, 20, 30), (215, 70, 70)),
    "green": ((40, 140, 60), (24, 84, 40), (130, 200, 110), (110, 120, 50)),
    "yellow": ((240, 210, 40), (250, 240, 140)),
    "blue": ((40, 80, 190), (20, 36, 100), (120, 180, 230), (40, 170, 176)),
    "brown": ((110, 66, 36), (70, 44, 28), (170, 124, 80)),
    "orange": ((240, 126, 28), (205, 90, 40)),
    "pink": ((242, 140, 180), (250, 200, 210), (220, 50, 130)),
    "purple": ((120, 52, 150), (176, 140, 210), (70, 45, 90)),
}
"""The 11 basic colour terms of Berlin and Kay, each with a few sRGB prototypes: the nearest in CIELAB names a pixel."""

BASIC_NAMES = tuple(BASIC_COLORS)
NEAR_WHITE = 0.92
"""A pixel whose three channels are all above this is ground."""
LIGHT_GROUND, GROUND_STEP = 0.7, 0.12
"""Where the border's median is lighter than the first in all channels, so are pixels nearer to it than the second."""
LEAST_PRODUCT = 0.02
"""Share of the pixels below which nothing is told apart from the ground: a white product on white."""
NAMED_SIDE = 32
"""Photographs are averaged down to this side before pixels are named: weave and JPEG noise are no colours."""


def catalogue_color(text: str) -> str:
    """One of ``CATALOGUE_NAMES`` for a catalogue's colour, "" if no word is known.

    Of several colours ("Red/Black", "black and white") the first that is known counts; within one colour the longest
    known phrase, then the last known word ("dusty light blue" is blue): in English the noun stands last.

    >>> catalogue_color("Heather Navy Blue / white")
    'navy'
    """
    for part in re.split(r"[/,;|&+]|\band\b|\bwith\b", text.lower().replace("-", " ")):
        for phrase, name in PHRASES.items():
            if phrase in part:
                return name
        for word in reversed(re.findall(r"[a-z]+", part)):
            if word in _NAME_OF_WORD:
                return _NAME_OF_WORD[word]
    return ""


def foreground(images: Tensor) -> Tensor:
    """Which pixels show the product, not the ground; all pixels of an image where nothing stands out from the ground.

    Ground: near white, or close to the median colour of the image's border if that is light.
    [n, 3, H, W] in [0, 1] -> [n, H, W] bool.
    """
    border = torch.cat([images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]], dim=2)
    median = border.median(dim=2).values[:, :, None, None]
    near_border = ((images - median).abs() < GROUND_STEP).all(dim=1) & (median > LIGHT_GROUND).all(dim=1)
    product = ~((images > NEAR_WHITE).all(dim=1) | near_border)
    seen = product.flatten(1).float().mean(dim=1) >= LEAST_PRODUCT
    return product | ~seen[:, None, None]


def lab_from_srgb(images: Tensor) -> Tensor:
    """CIELAB (D65, 2 degrees; L in [0, 100]) of sRGB in [0, 1]. [n, 3, ...] -> [n, 3, ...] (IEC 61966-2-1, CIE 15)."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    to_xyz = images.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    white = images.new_tensor([0.95047, 1.0, 1.08883])
    xyz = torch.einsum("ij,nj...->ni...", to_xyz / white[:, None], linear)
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], dim=1)


def basic_color_shares(images: Tensor) -> Tensor:
    """Share of the foreground's pixels that bear each basic name; the largest share is the dominant colour.

    [n, 3, H, W] sRGB in [0, 1] -> [n, 11] float, rows sum to 1, columns in the order of ``BASIC_NAMES``.
    """
    side = min(NAMED_SIDE, images.shape[-1], images.shape[-2])
    small = torch.nn.functional.adaptive_avg_pool2d(images, side)
    prototypes = images.new_tensor([rgb for several in BASIC_COLORS.values() for rgb in several]) / 255
    name_of = torch.tensor(
        [i for i, several in enumerate(BASIC_COLORS.values()) for _ in several], device=images.device
    )
    pixels = lab_from_srgb(small).flatten(2).transpose(1, 2)
    named = name_of[torch.cdist(pixels, lab_from_srgb(prototypes)).argmin(dim=2)]
    shown = foreground(small).flatten(1).to(images.dtype)
    counts = images.new_zeros(len(images), len(BASIC_NAMES)).scatter_add_(1, named, shown)
    return counts / counts.sum(dim=1, keepdim=True)
