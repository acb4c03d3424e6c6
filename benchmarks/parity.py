"""Each augmentation of the pixel graph beside torchvision's or PIL's with the same parameters: differences, pictures.

    python -m benchmarks.parity --out docs/pictures            # a drawn product: table and pictures of docs/parity.md
    python -m benchmarks.parity --photograph photo.jpg --out somewhere

Differences are in levels of 8 bits (0 to 255), over all pixels and colours. torchvision works on float32 where it can,
so that its own rounding is not counted.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from benchmarks.pixels import PLAIN, crops_of, still_plan
from shards.errors import exit_with
from shards.sources.demo import products
from shards.sources.drawing import draw
from skill_fast.data.views import GenericAugmentation

SIDE = 224
Pixels = np.ndarray
COLORS = GenericAugmentation(flip_p=0, jitter_p=1, gray_p=0, blur_p=0)
BLUR = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=1)
SOLARIZE = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=0, solarize_p=1)
BILINEAR = {"interpolation": InterpolationMode.BILINEAR, "fill": 255.0}


@dataclass(frozen=True)
class Pair:
    """One operation done both ways: [H, W, 3] float, 0 to 255."""

    name: str
    beside: str
    ours: Pixels
    theirs: Pixels

    @property
    def difference(self) -> Pixels:
        return np.abs(self.ours.astype(np.float64) - self.theirs)

    @property
    def row(self) -> str:
        return f"| {self.name} | {self.beside} | {self.difference.mean():.2f} | {self.difference.max():.1f} |"


def ours(photograph: Pixels, size: int, generic: GenericAugmentation = PLAIN, **changes: Any) -> Pixels:
    """The graph's crop of the whole photograph under a plan that changes only what is given."""
    flags = {"bends": "homography" in changes, "erases": "erase_box" in changes}
    plan = still_plan([photograph.shape[:2]], size, **{name: np.array([value]) for name, value in changes.items()})
    return crops_of([photograph], size, plan, generic=generic, **flags)[0]


def theirs(photograph: Pixels, operation: Callable[[torch.Tensor], torch.Tensor], scale: float = 1.0) -> Pixels:
    """A torchvision functional on [3, H, W] float32 of 0 to ``scale``."""
    tensor = torch.tensor(photograph, dtype=torch.float32).permute(2, 0, 1) * (scale / 255)
    return (operation(tensor) * (255 / scale)).clamp(0, 255).permute(1, 2, 0).numpy()


def pairs(photograph: Pixels) -> Iterator[Pair]:
    """photograph: [H, W, 3] uint8, at least 224 pixels a side. Geometry first, then colours."""
    yield from _resizes(photograph)
    crop = np.asarray(Image.fromarray(photograph).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    yield from _warps(crop)
    yield from _exact(crop)
    yield from _colors(crop)
    yield from _blurs(crop)


def _resizes(photograph: Pixels) -> Iterator[Pair]:
    height, width, _ = photograph.shape
    y, x, h, w = height // 8, width // 6, height * 3 // 4, width * 2 // 3
    for size, name in ((96, "crop, smaller"), (288, "crop, larger")):
        got = ours(photograph, size, region=[y, x, y + h, x + w])
        cut = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
        wanted = theirs(photograph, lambda t, s=size, cut=cut: tv.resized_crop(t, y, x, h, w, [s, s], **cut))
        yield Pair(f"{name}: {h} x {w} to {size} x {size}", "torchvision resized_crop, bicubic, antialias", got, wanted)
        box, kind = (x, y, x + w, y + h), Image.Resampling.BICUBIC
        by_pil = np.asarray(Image.fromarray(photograph).resize((size, size), kind, box=box))
        yield Pair(f"{name}, seen beyond the window", "PIL resize with box, bicubic", got, by_pil)


def _warps(crop: Pixels) -> Iterator[Pair]:
    middle = np.array([[1, 0, SIDE / 2], [0, 1, SIDE / 2], [0, 0, 1]])
    angle = np.deg2rad(15)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    got = ours(crop, SIDE, homography=middle @ turn @ np.linalg.inv(middle))
    wanted = theirs(crop, lambda t: tv.rotate(t, 15, **BILINEAR))
    yield Pair("rotation by 15 degrees", "torchvision rotate, bilinear", got, wanted)
    corners = [[0, 0], [SIDE - 1, 0], [SIDE - 1, SIDE - 1], [0, SIDE - 1]]
    moved = [[20, 12], [SIDE - 30, 4], [SIDE - 6, SIDE - 24], [9, SIDE - 14]]
    got = ours(crop, SIDE, homography=_homography(moved, corners))
    wanted = theirs(crop, lambda t: tv.perspective(t, corners, moved, **BILINEAR))
    yield Pair("perspective", "torchvision perspective, bilinear", got, wanted)


def _homography(source: Sequence[Sequence[float]], target: Sequence[Sequence[float]]) -> np.ndarray:
    """[3, 3]: the projective map that takes each of four source points to its target."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), np.array(values, float)), 1).reshape(3, 3)


def _exact(crop: Pixels) -> Iterator[Pair]:
    yield Pair("flip", "torchvision horizontal_flip", ours(crop, SIDE, mirror=1), crop[:, ::-1])
    got = ours(crop, SIDE, SOLARIZE, solarize_from=128)
    yield Pair("solarize from 128", "torchvision solarize", got, theirs(crop, lambda t: tv.solarize(t, 127.5 / 255)))
    white = torch.full((3, 1, 1), 255.0)
    wanted = theirs(crop, lambda t: tv.erase(t, 30, 40, 60, 90, white), 255.0)
    yield Pair("erase", "torchvision erase, white", ours(crop, SIDE, erase_box=[30, 40, 60, 90]), wanted)


def _colors(crop: Pixels) -> Iterator[Pair]:
    for name, plan, operation in (
        ("brightness 1.3", {"brightness": 1.3}, lambda t: tv.adjust_brightness(t, 1.3)),
        ("contrast 0.6", {"contrast": 0.6}, lambda t: tv.adjust_contrast(t, 0.6)),
        ("saturation 0.5", {"saturation": 0.5}, lambda t: tv.adjust_saturation(t, 0.5)),
        ("grey", {"saturation": 0.0}, lambda t: tv.rgb_to_grayscale(t, 3)),
        ("hue by 36 degrees", {"hue_degrees": 36.0}, lambda t: tv.adjust_hue(t, 0.1)),
        (
            "all four, 1.2 / 0.8 / 1.2 / 20 degrees",
            {"brightness": 1.2, "contrast": 0.8, "saturation": 1.2, "hue_degrees": 20.0},
            lambda t: tv.adjust_hue(
                tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(t, 1.2), 0.8), 1.2), 20 / 360
            ),
        ),
    ):
        yield Pair(name, "torchvision adjust_*", ours(crop, SIDE, COLORS, **plan), theirs(crop, operation))


def _blurs(crop: Pixels) -> Iterator[Pair]:
    for sigma in (0.5, 2.0):
        got, window = ours(crop, SIDE, BLUR, blur_sigma=sigma), 2 * int(np.ceil(3 * sigma)) + 1
        wanted = theirs(crop, lambda t, s=sigma, n=window: tv.gaussian_blur(t, [n, n], [s, s]))
        yield Pair(f"blur, sigma {sigma:g}", f"torchvision gaussian_blur, {window} x {window}", got, wanted)
        narrow = theirs(crop, lambda t, s=sigma: tv.gaussian_blur(t, [9, 9], [s, s]))
        yield Pair(f"blur, sigma {sigma:g}", "torchvision gaussian_blur, 9 x 9", got, narrow)
        by_pil = np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(sigma)))
        yield Pair(f"blur, sigma {sigma:g}", "PIL GaussianBlur (three box blurs)", got, by_pil)


def decoded(jpeg: bytes) -> Pair:
    """A JPEG by DALI on the CPU, through the graph at rest, beside Pillow."""
    by_pillow = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    side = by_pillow.shape[0]
    plan = still_plan([by_pillow.shape[:2]], side)
    got = crops_of([np.frombuffer(jpeg, dtype=np.uint8)], side, plan, encoded=True)[0]
    return Pair("decode", "Pillow", got, by_pillow)


def sheet(found: Sequence[Pair], photograph: Pixels) -> Image.Image:
    """A row a pair: ours, theirs, and eight times their difference."""
    side, text, gap = 150, 300, 6
    page = Image.new("RGB", (text + 3 * (side + gap), 24 + len(found) * (side + gap)), "white")
    pen = ImageDraw.Draw(page)
    for place, title in enumerate(("skill_fast", "the other", "difference x 8")):
        pen.text((text + place * (side + gap), 6), title, fill="black")
    for row, pair in enumerate(found):
        top = 24 + row * (side + gap)
        said = f"mean {pair.difference.mean():.2f}, most {pair.difference.max():.1f} of 255"
        pen.multiline_text((4, top + 40), f"{pair.name}\n{pair.beside}\n\n{said}", fill="black", spacing=4)
        for place, pixels in enumerate((pair.ours, pair.theirs, 8 * pair.difference)):
            picture = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
            page.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (text + place * (side + gap), top))
    return page


def drawn_product(side: int = 384) -> Pixels:
    """A dress of the demo catalogue with a pattern in two colours."""
    for product in products(designs=40, photo_side=side, seed=3):
        if product.product_type == "dress" and product.pattern in ("flowers", "checks"):
            return np.asarray(draw(product.photographs[0]))  # type: ignore[arg-type]
    raise LookupError("no dress among the first drawn designs")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--photograph", type=Path, help="an image file (default: a drawn product)")
    parser.add_argument("--out", type=Path, required=True, help="folder for parity.md and two pictures")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    photograph = drawn_product()
    if options.photograph:
        photograph = np.asarray(Image.open(options.photograph).convert("RGB"))
    found = list(pairs(photograph))
    buffer = io.BytesIO()
    Image.fromarray(photograph[: min(photograph.shape[:2]), : min(photograph.shape[:2])]).save(
        buffer, "JPEG", quality=90
    )
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [pair.row for pair in (decoded(buffer.getvalue()), *found)]
    table = ["| operation | beside | mean | most |", "|---|---|---|---|", *rows]
    (options.out / "parity.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    colors = next(place for place, pair in enumerate(found) if pair.name.startswith("brightness"))
    for name, part in (("geometry", found[:colors]), ("colour", found[colors:])):
        sheet(part, photograph).save(options.out / f"parity-{name}.jpg", quality=88)
    print("\n".join(table))


if __name__ == "__main__":
    sys.exit(main())
