"""A drawn catalogue with known labels: designs in several colours, each product photographed several times.

Colour is the easy way to tell its products apart and design (pattern, silhouette, sleeve) the hard one: photographs of
a product are not aligned, and a design's colours are drawn independently of everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from shards.errors import BadUsage
from shards.sources.drawing import Drawing, Light, Pose, Rgb, draw
from shards.sources.patterns import PATTERNS, Cloth
from shards.sources.product import Catalogue, Product
from shards.sources.silhouettes import BACKS, LENGTHS, NECKLINES, SILHOUETTES, SLEEVES, Shape

Choice = TypeVar("Choice")

COLORS: dict[str, Rgb] = {
    "black": (38, 38, 42),
    "grey": (132, 132, 136),
    "red": (204, 36, 40),
    "orange": (238, 126, 28),
    "yellow": (238, 208, 48),
    "green": (44, 140, 62),
    "teal": (40, 172, 176),
    "blue": (42, 76, 190),
    "purple": (122, 52, 152),
    "pink": (240, 138, 180),
}
WHITE: Rgb = (236, 236, 232)
SECOND_COLORS: tuple[Rgb, ...] = (WHITE, *COLORS.values())
LUMINANCE_STEP = 85.0
"""Least difference in luminance between a product's two colours, of 255: without it grey views lose the pattern."""
TEST_SHARE = 0.41
"""Of the designs; at 248 designs this holds out 101 variant groups."""
COLOR_COUNTS = (3, 4)
PHOTOGRAPH_COUNTS = (3, 3, 3, 4, 4, 4, 4, 4, 5, 6)
"""One is drawn a product: 4 in the mean."""
IMAGES_PER_DESIGN = 14
"""In the mean: 3.5 colours of 4 photographs."""
COUNTED_DESIGNS = 2_000
"""In larger catalogues photographs are estimated: counting them takes about a quarter of a millisecond each."""
CLOSE_P = 0.25
"""Probability that a photograph is taken so close that the frame cuts the product."""
DETAIL_P = 0.5
"""Probability that a product's last photograph is a detail shot."""

__all__ = ["COLORS", "catalogue", "draw", "luminance", "products"]


def catalogue(designs: int = 248, photo_side: int = 64, seed: int = 0) -> Catalogue:
    """The drawn catalogue as a source; raises BadUsage where a number is out of range."""
    for name, value, low, high in (("designs", designs, 1, 1_000_000), ("photo_side", photo_side, 16, 2048)):
        if not low <= value <= high:
            raise BadUsage(f"{name} is {value}", allowed=f"{low} to {high}")
    if not 0 <= seed < 2**63:
        raise BadUsage(f"seed is {seed}", allowed="0 to 2^63 - 1")
    drawn = _Drawn(designs, photo_side, seed)
    exact = designs <= COUNTED_DESIGNS
    images = sum(len(product.photographs) for product in drawn) if exact else designs * IMAGES_PER_DESIGN
    return Catalogue(drawn, images, {"designs": designs, "photo_side": photo_side, "seed": seed})


class _Drawn:
    """The products, made anew each time one goes through them."""

    def __init__(self, designs: int, photo_side: int, seed: int) -> None:
        self._of = designs, photo_side, seed

    def __iter__(self) -> Iterator[Product]:
        return products(*self._of)


def products(designs: int = 248, photo_side: int = 64, seed: int = 0) -> Iterator[Product]:
    """Yield the products of ``designs`` designs, 3 or 4 colours each, with photographs of ``photo_side`` pixels.

    Design i depends on (seed, i) alone, so a larger catalogue begins with the smaller one. Every 32 designs hold each
    pair of pattern and silhouette once; 41 % of the designs have split "test", with all their colours.
    """
    for number in range(designs):
        rng = _stream(seed, number)
        pattern, silhouette = _pair(seed, number)
        shape, cloth = _shape(rng, silhouette), _cloth(rng, pattern)
        held_out = math.floor((number + 1) * TEST_SHARE) > math.floor(number * TEST_SHARE)
        names = [list(COLORS)[i] for i in rng.permutation(len(COLORS))[: _pick(rng, COLOR_COUNTS)]]
        preference = [SECOND_COLORS[i] for i in rng.permutation(len(SECOND_COLORS))]
        for color in names:
            base = _nuance(rng, COLORS[color])
            second = _second_color(base, preference)
            yield Product(
                product_id=f"design-{number:04d}-{color}",
                product_type=silhouette,
                color=color,
                pattern=pattern,
                variant_group=f"design-{number:04d}",
                split="test" if held_out else "train",
                attributes=_attributes(shape),
                photographs=tuple(_photographs(rng, shape, cloth, base, second, photo_side)),
            )


def luminance(rgb: Rgb) -> float:
    """Luma of ITU-R BT.601, 0 to 255."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], dtype=np.uint64)))


def _pair(seed: int, number: int) -> tuple[str, str]:
    """Pattern and silhouette: each block of designs is a permutation of all pairs."""
    pairs = [(pattern, silhouette) for pattern in PATTERNS for silhouette in SILHOUETTES]
    block, place = divmod(number, len(pairs))
    # Keys of blocks start where no design's key can be.
    order = _stream(seed, 2**63 + block).permutation(len(pairs))
    return pairs[order[place]]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Rounded, so that the last bit of a platform's arithmetic can not show."""
    return round(float(rng.uniform(low, high)), 4)


def _pick(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def _turn(rng: np.random.Generator, degrees: float) -> tuple[float, float]:
    angle = math.radians(_between(rng, -degrees, degrees))
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


def _shape(rng: np.random.Generator, silhouette: str) -> Shape:
    width, flare = _between(rng, 0.84, 1.16), _between(rng, 0.75, 1.3)
    sleeve, neckline = _pick(rng, tuple(SLEEVES)), _pick(rng, NECKLINES)
    length, back = _pick(rng, tuple(LENGTHS.get(silhouette, {"": 0.0}))), _pick(rng, BACKS)
    if silhouette in ("shirt", "dress"):
        return Shape(silhouette, width, flare, sleeve=sleeve, neckline=neckline, length=length)
    return Shape(silhouette, width, flare, length=length, back=back if silhouette == "chair" else "")


def _attributes(shape: Shape) -> dict[str, str]:
    named = {"sleeve": shape.sleeve, "neckline": shape.neckline, "length": shape.length, "back": shape.back}
    return {name: value for name, value in named.items() if value}


def _cloth(rng: np.random.Generator, pattern: str) -> Cloth:
    coarse = {"flowers": 0.75, "dots": 0.9, "camouflage": 1.3, "checks": 0.9}.get(pattern, 1.0)
    return Cloth(
        pattern=pattern,
        frequency=round(coarse * _between(rng, 1.9, 4.4), 4),
        # Checks overlap: a smaller share leaves the base colour the larger area there too.
        duty=_between(rng, 0.2, 0.36 if pattern == "checks" else 0.46),
        phase=(_between(rng, 0, 1), _between(rng, 0, 1)),
        turn=_turn(rng, 7),
        lattice=_lattice(rng, 8),
        wave=_between(rng, 0.5, 1.1),
    )


def _lattice(rng: np.random.Generator, side: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(value) for value in row) for row in rng.integers(0, 256, (side, side)))


def _nuance(rng: np.random.Generator, rgb: Rgb) -> Rgb:
    """The product's own red: each channel moved by at most 10."""
    red, green, blue = (int(min(255, max(0, value + step))) for value, step in zip(rgb, rng.integers(-10, 11, 3)))
    return red, green, blue


def _second_color(base: Rgb, preference: list[Rgb]) -> Rgb:
    """The first of the design's preferred second colours that can be told from ``base`` in grey."""
    return next(rgb for rgb in preference if abs(luminance(rgb) - luminance(base)) >= LUMINANCE_STEP)


def _photographs(
    rng: np.random.Generator, shape: Shape, cloth: Cloth, base: Rgb, second: Rgb, side: int
) -> Iterator[Drawing]:
    count = _pick(rng, PHOTOGRAPH_COUNTS)
    has_detail = rng.random() < DETAIL_P
    for view in range(count):
        pose = _detail_pose(rng) if has_detail and view == count - 1 else _pose(rng)
        yield Drawing(shape, cloth, base, second, pose, _light(rng), side)


def _pose(rng: np.random.Generator) -> Pose:
    scale, closer = _between(rng, 0.75, 1.05), _between(rng, 1.2, 1.5)
    return Pose(
        scale=closer if rng.random() < CLOSE_P else scale,
        stretch=_between(rng, 0.78, 1.08),
        lean=_between(rng, -0.16, 0.16),
        turn=_turn(rng, 15),
        shift=(_between(rng, -0.24, 0.24), _between(rng, -0.24, 0.24)),
        mirrored=bool(rng.integers(2)),
    )


def _detail_pose(rng: np.random.Generator) -> Pose:
    """Zoomed to a part of the product, mostly its upper half, which fills the frame."""
    scale = _between(rng, 1.8, 2.5)
    return Pose(
        scale=scale,
        stretch=1.0,
        lean=0.0,
        turn=_turn(rng, 15),
        shift=(_between(rng, -0.5, 0.5), _between(rng, 0.0, 0.9)),
        mirrored=bool(rng.integers(2)),
    )


def _light(rng: np.random.Generator) -> Light:
    """Of ten grounds five are white, three light grey, two tinted; two fifths of the photographs have a soft shadow."""
    kind, tone = int(rng.integers(10)), int(rng.integers(212, 240))
    tint = [int(value) for value in rng.integers(-14, 15, 3)]
    grounds = {True: (255, 255, 255), False: (tone, tone, tone)}
    ground = grounds[kind < 5] if kind < 8 else (tone + tint[0], tone + tint[1], tone + tint[2])
    shadow = (_between(rng, 0.2, 0.45), _between(rng, -0.16, 0.16), _between(rng, 0.03, 0.18))
    return Light(
        brightness=_between(rng, 0.82, 1.08),
        gradient=(_between(rng, -0.2, 0.2), _between(rng, -0.2, 0.2)),
        folds=_lattice(rng, 5),
        ground=ground,
        shadow=shadow if rng.random() < 0.4 else (0.0, 0.0, 0.0),
    )
