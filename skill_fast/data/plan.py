"""The plan of a batch: every random choice about its crops, made on the CPU before a pixel is decoded.

"With probability p" is folded into the value: a factor of 1, a sigma near 0, the identity, an empty box. So the pixel
graph is the same for every sample and holds nothing random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from skill_fast.data import geometry
from skill_fast.data.crop_law import TRIES, between, erase_boxes, random_resized_windows, zoom_windows
from skill_fast.data.draws import uniforms
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.recipes import BY_TYPE, Recipe, recipes_of_types
from skill_fast.data.views import GenericAugmentation, Part, ViewGroup

# Uniform numbers that a view owns, in this order. New ones go to the end, so that the old ones stay what they were.
VIEW_DRAWS = {
    "area": TRIES,
    "aspect": TRIES,
    **dict.fromkeys(("y", "x", "flip"), 1),
    **dict.fromkeys(("jitter", "brightness", "contrast", "saturation", "hue", "gray", "blur", "sigma", "solarize"), 1),
    **dict.fromkeys(("zoom", "zoom_area", "zoom_y", "zoom_x"), 1),
    **dict.fromkeys(("rotate", "angle", "quarter", "vertical_flip", "scale", "factor", "perspective"), 1),
    "corners": 8,
    **dict.fromkeys(("erase", "erase_area", "erase_aspect", "erase_y", "erase_x"), 1),
}
IDENTITY_SIGMA = 1e-2  # DALI takes 0 for "derive it from the window"; at .01 the neighbours' weights are exactly 0
SOLARIZE_FROM, SOLARIZE_NEVER = 128, 256


@dataclass(frozen=True)
class CropPlan:
    """What the pixel graph does to make the crops of one view group; arrays are [batch, views, ...].

    A crop is: resize ``region`` of the photograph to ``resized`` (bicubic, antialiased); warp by ``homography``
    (from the crop into the resized region, corner origin; outside is white); colour twist; blur; solarize; erase;
    mirror.
    """

    window: np.ndarray
    """[..., 4] int64 (y, x, height, width): drawn by the crop law within the photograph, or its zoom."""
    region: np.ndarray
    """[..., 4] float32 (y0, x0, y1, x1) in pixels of the photograph."""
    resized: np.ndarray
    """[..., 2] float32 (height, width); the crop's own size where the homography is the identity."""
    homography: np.ndarray
    """[..., 3, 3] float32."""
    brightness: np.ndarray
    contrast: np.ndarray
    saturation: np.ndarray
    """[...] float32 factors; 0 is grey."""
    hue_degrees: np.ndarray
    blur_sigma: np.ndarray
    """[...] float32 in pixels of the crop."""
    solarize_from: np.ndarray
    """[...] int32: values from here on are inverted; 256 is never."""
    erase_box: np.ndarray
    """[..., 4] float32 (y, x, height, width) in pixels of the crop before mirroring."""
    mirror: np.ndarray
    """[...] int32, 1 where the crop is flipped left to right."""


class Planner:
    """Plans crops as a pure function of (seed, epoch, position, view) and of the photograph shown there.

    recipes: ``by_type``, or the name or file of the recipe that all products follow.
    """

    def __init__(
        self, index: CatalogueIndex, groups: Sequence[ViewGroup], seed: int, *, recipes: str = BY_TYPE
    ) -> None:
        self.index, self.groups, self.seed = index, tuple(groups), seed
        self.recipes, self._recipe_of_type = recipes_of_types(index.product_types, recipes)

    def second_photographs(self, epoch: int, positions: np.ndarray, images: np.ndarray) -> np.ndarray:
        """x'' for each x': another photograph of the same product, all as likely; x' itself where it is the only one.

        images and the result: [n] int64 rows of images.parquet.
        """
        u = uniforms(self.seed, epoch, "second photograph", positions, 1)[:, 0]
        product = self.index.product[images]
        first, count = self.index.first_image[product], self.index.images_per_product[product]
        other = np.floor(u * (count - 1)).astype(np.int64)
        other += other >= images - first
        return np.where(count > 1, first + other, images)

    def crops(self, epoch: int, positions: np.ndarray, images: np.ndarray) -> dict[str, CropPlan]:
        """The plan of every view group by name; images: [n, 2] int64 rows shown as x' and x''."""
        plans = {}
        for group in self.groups:
            views = [
                self._view(
                    group, v, uniforms(self.seed, epoch, f"view/{group.name}/{v}", positions, DRAWS), images[:, shown]
                )
                for v, shown in enumerate(group.photographs)
            ]
            plans[group.name] = CropPlan(
                **{f.name: np.stack([view[f.name] for view in views], axis=1) for f in fields(CropPlan)}
            )
        return plans

    def _view(self, group: ViewGroup, view: int, uniform: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
        u = {name: uniform[:, place] for name, place in PLACES.items()}
        recipe = self._recipe_values(images)
        erased = erase_boxes(
            group.size,
            np.where(u["erase"] < recipe["erase_p"], between(u["erase_area"], *recipe["erase_area"].T), 0.0),
            np.exp(between(u["erase_aspect"], *np.log(recipe["erase_aspect"]).T)),
            u["erase_y"],
            u["erase_x"],
        )
        mirror = (u["flip"] < group.generic.flip_p).astype(np.int32)
        return (
            self._geometry(group, group.part(view), u, recipe, images)
            | _colors(group.generic, u)
            | {"erase_box": erased, "mirror": mirror}
        )

    def _recipe_values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Each parameter of the recipes as an array over the batch, [n] or [n, 2]."""
        code = self._recipe_of_type[self.index.product_type[self.index.product[images]]]
        return {f.name: np.array([getattr(r, f.name) for r in self.recipes])[code] for f in fields(Recipe)}

    def _geometry(
        self, group: ViewGroup, part: Part, u: dict[str, np.ndarray], recipe: dict[str, np.ndarray], images: np.ndarray
    ) -> dict[str, np.ndarray]:
        height, width = self.index.height[images].astype(np.int64), self.index.width[images].astype(np.int64)
        zoom = _within(_zooms(u, recipe, height, width), part)
        quarter = np.where(recipe["quarter_turns"], np.floor(4 * u["quarter"]), 0.0)
        on_side = quarter % 2 == 1
        canvas_h, canvas_w = np.where(on_side, zoom[:, 3], zoom[:, 2]), np.where(on_side, zoom[:, 2], zoom[:, 3])
        window = random_resized_windows(
            canvas_h, canvas_w, group.scale, group.aspect, u["area"], u["aspect"], u["y"], u["x"]
        )
        region = np.stack([zoom[:, 0] + window[:, 0], zoom[:, 1] + window[:, 1]], axis=1)
        region = np.concatenate([region, region + window[:, 2:]], axis=1).astype(np.float64)
        resized = np.full((len(images), 2), group.size, dtype=np.float64)
        homography = np.tile(np.eye(3), (len(images), 1, 1))
        bent, inverse = _recipe_inverses(u, recipe, quarter, zoom, canvas_h, canvas_w)
        if bent.any():
            crop_to_canvas = geometry.scalings(
                window[:, 3] / group.size, window[:, 2] / group.size, window[:, 1], window[:, 0]
            )
            region[bent], resized[bent], homography[bent] = geometry.source_regions(
                inverse @ crop_to_canvas[bent], group.size, height[bent], width[bent]
            )
        return {
            "window": window,
            "region": region.astype(np.float32),
            "resized": resized.astype(np.float32),
            "homography": homography.astype(np.float32),
        }


def _places() -> dict[str, int | slice]:
    """Where in a view's row of numbers each one stands: a column, or columns where there are several."""
    ends = np.cumsum(list(VIEW_DRAWS.values())).tolist()
    return {
        name: end - 1 if count == 1 else slice(end - count, end) for (name, count), end in zip(VIEW_DRAWS.items(), ends)
    }


PLACES = _places()
DRAWS = sum(VIEW_DRAWS.values())


def _zooms(
    u: dict[str, np.ndarray], recipe: dict[str, np.ndarray], height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """The part of the photograph that the recipe zooms to, or all of it, [n, 4] int64 (y, x, height, width)."""
    windows = zoom_windows(
        height,
        width,
        between(u["zoom_area"], *recipe["zoom_area"].T),
        recipe["zoom_aspect"],
        between(u["zoom_y"], *recipe["zoom_center_y"].T),
        between(u["zoom_x"], *recipe["zoom_center_x"].T),
    )
    whole = np.stack([np.zeros_like(height), np.zeros_like(width), height, width], axis=1)
    return np.where((u["zoom"] < recipe["zoom_p"])[:, None], windows, whole)


def _within(zoom: np.ndarray, part: Part) -> np.ndarray:
    """That part of each zoomed region, at least a pixel large; [n, 4] int64 (y, x, height, width)."""
    top, left, bottom, right = part
    y, x, height, width = zoom.T
    y1, x1 = np.floor(height * top).astype(np.int64), np.floor(width * left).astype(np.int64)
    y2, x2 = np.ceil(height * bottom).astype(np.int64), np.ceil(width * right).astype(np.int64)
    return np.stack([y + y1, x + x1, np.maximum(y2 - y1, 1), np.maximum(x2 - x1, 1)], axis=1)


def _recipe_inverses(
    u: dict[str, np.ndarray],
    recipe: dict[str, np.ndarray],
    quarter: np.ndarray,
    zoom: np.ndarray,
    canvas_h: np.ndarray,
    canvas_w: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Which samples are bent, [n] bool, and for those the map from the canvas into the photograph, [bent, 3, 3].

    The recipe turns, scales and flips about the centre, then applies the perspective; this is the way back.
    """
    rotated, flipped = u["rotate"] < recipe["rotate_p"], u["vertical_flip"] < recipe["vertical_flip_p"]
    scaled, tilted = u["scale"] < recipe["scale_p"], u["perspective"] < recipe["perspective_p"]
    bent = rotated | flipped | scaled | tilted | (quarter > 0)
    degrees = np.where(rotated, (2 * u["angle"] - 1) * recipe["rotate_degrees"], 0.0) + 90 * quarter
    factor = np.where(scaled, between(u["factor"], *recipe["scale"].T), 1.0)
    reach = np.where(tilted, recipe["perspective"] / 2, 0.0)
    inward = u["corners"].reshape(-1, 4, 2) * reach[:, None, None]
    canvas_h, canvas_w, zoom = canvas_h[bent], canvas_w[bent], zoom[bent]
    inverse = (
        geometry.translations(zoom[:, 1] + zoom[:, 3] / 2, zoom[:, 0] + zoom[:, 2] / 2)
        @ geometry.inverse_turns(degrees[bent], factor[bent], flipped[bent])
        @ geometry.translations(-canvas_w / 2, -canvas_h / 2)
        @ geometry.inverse_perspectives(canvas_h, canvas_w, inward[bent])
    )
    return bent, inverse


def _colors(generic: GenericAugmentation, u: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Jitter, grey, blur and solarize of G (SkiLL section 3.2); grey is a saturation of 0."""
    jittered = u["jitter"] < generic.jitter_p

    def factor(name: str, strength: float) -> np.ndarray:
        return np.where(jittered, between(u[name], max(0.0, 1 - strength), 1 + strength), 1.0).astype(np.float32)

    hue = np.where(jittered, between(u["hue"], -generic.hue, generic.hue) * 360, 0.0)
    sigma = np.where(u["blur"] < generic.blur_p, between(u["sigma"], *generic.blur_sigma), IDENTITY_SIGMA)
    return {
        "brightness": factor("brightness", generic.brightness),
        "contrast": factor("contrast", generic.contrast),
        "saturation": np.where(u["gray"] < generic.gray_p, np.float32(0), factor("saturation", generic.saturation)),
        "hue_degrees": hue.astype(np.float32),
        "blur_sigma": np.maximum(sigma, IDENTITY_SIGMA).astype(np.float32),
        "solarize_from": np.where(u["solarize"] < generic.solarize_p, SOLARIZE_FROM, SOLARIZE_NEVER).astype(np.int32),
    }
