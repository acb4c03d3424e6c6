"""The outlines of drawn products: shirt, dress, trousers and chair as unions of convex polygons.

Coordinates: u to the right, v downwards, the product within about [-1, 1] in both. ``Shape.width``, ``flare`` and
``length`` make two designs of one silhouette differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Point = tuple[float, float]
Polygon = tuple[Point, ...]

SLEEVES: dict[str, float] = {"none": 0.0, "short": 0.42, "elbow": 0.78, "long": 1.28}
"""Length of a sleeve along the arm."""
NECKLINES = ("round", "v", "boat")
LENGTHS: dict[str, dict[str, float]] = {
    "dress": {"mini": 0.4, "knee": 0.68, "maxi": 0.97},
    "trousers": {"shorts": 0.12, "cropped": 0.58, "long": 0.97},
}
"""Where the hem lies on the v axis."""
REACH = 0.97
"""Half of a product's longer side."""
SHOULDER_DROP = 0.1
"""How far the tip of a shoulder lies below the neck."""
BACKS = ("panel", "slats", "low")


@dataclass(frozen=True)
class Shape:
    """One design's own version of a silhouette; what does not apply to the silhouette is ""."""

    silhouette: str
    width: float
    """Factor on the body's width, around 1."""
    flare: float
    """Factor from the upper to the lower width, around 1."""
    sleeve: str = ""
    neckline: str = ""
    length: str = ""
    back: str = ""


@dataclass(frozen=True)
class Outline:
    """What is drawn, in this order: wood, cloth, cuts out of both, seams on the cloth."""

    cloth: tuple[Polygon, ...]
    cuts: tuple[Polygon, ...] = ()
    seams: tuple[Polygon, ...] = ()
    wood: tuple[Polygon, ...] = ()


def outline(shape: Shape) -> Outline:
    """The shape's outline, moved and scaled so that its longer side fits [-REACH, REACH]: shorts fill the frame."""
    raw = SILHOUETTES[shape.silhouette](shape)
    rows = [v for polygon in raw.cloth + raw.wood for _, v in polygon]
    half_width = max(u for polygon in raw.cloth + raw.wood for u, _ in polygon)
    middle, half_height = (min(rows) + max(rows)) / 2, (max(rows) - min(rows)) / 2
    factor = REACH / max(half_width, half_height)

    def fit(polygons: tuple[Polygon, ...]) -> tuple[Polygon, ...]:
        return tuple(tuple((u * factor, (v - middle) * factor) for u, v in polygon) for polygon in polygons)

    return Outline(fit(raw.cloth), fit(raw.cuts), fit(raw.seams), fit(raw.wood))


def _both_sides(*polygons: Polygon) -> tuple[Polygon, ...]:
    return polygons + tuple(tuple((-u, v) for u, v in polygon) for polygon in polygons)


def _bar(left: float, top: float, right: float, bottom: float) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _trapezoid(top: float, top_half: float, bottom: float, bottom_half: float) -> Polygon:
    return ((-top_half, top), (top_half, top), (bottom_half, bottom), (-bottom_half, bottom))


def _sleeve(sleeve: str, shoulder: Point, thickness: float) -> tuple[Polygon, Polygon]:
    """The right sleeve and its cuff; the arm hangs at about 28 degrees from the vertical."""
    along, across = (0.47, 0.883), (0.883, -0.47)

    def at(distance: float, offset: float) -> Point:
        return (
            shoulder[0] + along[0] * distance + across[0] * offset,
            shoulder[1] + along[1] * distance + across[1] * offset,
        )

    length = SLEEVES[sleeve]
    narrow = thickness * (1 - 0.3 * length / SLEEVES["long"])
    arm = (at(0.0, 0.0), at(length, 0.0), at(length, -narrow), at(0.1, -thickness * 1.25))
    cuff = (at(length - 0.06, 0.0), at(length - 0.02, 0.0), at(length - 0.02, -narrow), at(length - 0.06, -narrow))
    return arm, cuff


def _neck(neckline: str, top: float) -> Polygon:
    if neckline == "v":
        return ((-0.19, top - 0.05), (0.19, top - 0.05), (0.17, top), (0.0, top + 0.42), (-0.17, top))
    if neckline == "boat":
        return (
            (-0.3, top - 0.05),
            (0.3, top - 0.05),
            (0.26, top + 0.03),
            (0.12, top + 0.09),
            (-0.12, top + 0.09),
            (-0.26, top + 0.03),
        )
    return (
        (-0.2, top - 0.05),
        (0.2, top - 0.05),
        (0.18, top + 0.08),
        (0.08, top + 0.19),
        (-0.08, top + 0.19),
        (-0.18, top + 0.08),
    )


def _with_sleeves(
    shape: Shape, body: tuple[Polygon, ...], seams: tuple[Polygon, ...], top: float, half: float, thickness: float
) -> Outline:
    cuts: tuple[Polygon, ...] = (_neck(shape.neckline, top),)
    if shape.sleeve == "none":
        armhole = (
            (half + 0.3, top - 0.1),
            (half - 0.13, top - 0.02),
            (half - 0.12, top + 0.22),
            (half + 0.3, top + 0.5),
        )
        return Outline(body, cuts + _both_sides(armhole), seams)
    arm, cuff = _sleeve(shape.sleeve, (half, top + SHOULDER_DROP), thickness)
    armpit = ((half - 0.1, top + 0.1), (half - 0.075, top + 0.1), (half - 0.06, top + 0.5), (half - 0.085, top + 0.5))
    return Outline(body + _both_sides(arm), cuts, seams + _both_sides(cuff, armpit))


def _shirt(shape: Shape) -> Outline:
    half = 0.47 * shape.width
    bottom = half * (0.9 + 0.25 * (shape.flare - 1))
    shoulders = ((-0.2, -0.78), (0.2, -0.78), (half, -0.68), (half, -0.5), (-half, -0.5), (-half, -0.68))
    body = (shoulders, _trapezoid(-0.5, half, 0.82, bottom))
    hem = _bar(-bottom, 0.74, bottom, 0.765)
    return _with_sleeves(shape, body, (hem,), -0.78, half, 0.27)


def _dress(shape: Shape) -> Outline:
    half, waist, hem = 0.36 * shape.width, 0.26 * shape.width, LENGTHS["dress"][shape.length]
    skirt = waist + 0.42 * shape.flare * (hem + 0.12)
    shoulders = ((-0.17, -0.97), (0.17, -0.97), (half, -0.87), (half, -0.72), (-half, -0.72), (-half, -0.87))
    body = (shoulders, _trapezoid(-0.72, half, -0.12, waist), _trapezoid(-0.12, waist, hem, skirt))
    belt = _bar(-waist * 1.02, -0.15, waist * 1.02, -0.09)
    return _with_sleeves(shape, body, (belt,), -0.97, half, 0.2)


def _trousers(shape: Shape) -> Outline:
    half, hem = 0.4 * shape.width, LENGTHS["trousers"][shape.length]
    hip = half * 1.15
    outer, inner = hip + 0.16 * (shape.flare - 0.6) * (hem + 0.3), 0.09
    leg = ((0.0, -0.4), (hip, -0.4), (outer, hem), (inner + 0.06, hem), (0.02, -0.2))
    band = _bar(-half, -0.8, half, -0.77)
    fly = _bar(-0.012, -0.77, 0.012, -0.3)
    return Outline((_trapezoid(-0.93, half, -0.38, hip), *_both_sides(leg)), seams=(band, fly))


def _chair(shape: Shape) -> Outline:
    half, seat = 0.44 * shape.width, 0.5 * shape.width
    top = -0.45 if shape.back == "low" else -0.95
    legs = _both_sides(
        ((seat - 0.1, 0.2), (seat, 0.2), (seat + 0.1 * shape.flare, 0.97), (seat + 0.02, 0.97)),
        ((half * 0.45, 0.2), (half * 0.45 + 0.07, 0.2), (half * 0.45 + 0.07, 0.8), (half * 0.45, 0.8)),
    )
    posts = _both_sides(_bar(half - 0.07, top, half, 0.1))
    cushion = (_trapezoid(0.0, half, 0.16, seat + 0.03), _bar(-seat - 0.03, 0.16, seat + 0.03, 0.3))
    edge = _bar(-seat - 0.03, 0.15, seat + 0.03, 0.175)
    if shape.back == "slats":
        rails = tuple(_bar(-half, v, half, v + 0.23) for v in (-0.95, -0.65, -0.35))
        return Outline(rails + cushion, seams=(edge,), wood=legs + posts)
    rest = _trapezoid(top, half * 0.92, -0.06, half)
    return Outline((rest, *cushion), seams=(edge,), wood=legs + posts)


SILHOUETTES: dict[str, Callable[[Shape], Outline]] = {
    "shirt": _shirt,
    "dress": _dress,
    "trousers": _trousers,
    "chair": _chair,
}
