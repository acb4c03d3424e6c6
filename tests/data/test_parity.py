"""Each augmentation beside torchvision's with the same parameters: equal, or apart by a gap that a formula explains.

docs/parity.md shows the same pairs as pictures. Bounds are in levels of 8 bits and derived beside them.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from benchmarks.parity import COLORS, SIDE, Pair, decoded, drawn_product, main, ours, pairs, theirs
from benchmarks.pixels import crops_of, still_plan
from tests.data.conftest import drawn, jpeg
from tests.data.test_pixels import resampling

ROUNDING = 0.51
"""Where torchvision works in float and the graph rounds to 8 bits once."""
LUMA = np.array([0.299, 0.587, 0.114])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


PICTURES = {"drawn product": drawn_product(256), "noise": noise(231, 257), "smooth": drawn(260, 230, 4)}


@pytest.fixture(scope="module", params=PICTURES)
def found(request) -> dict[tuple[str, str], Pair]:
    return {(pair.name.split(":")[0], pair.beside): pair for pair in pairs(PICTURES[request.param])}


def inner(difference: np.ndarray, margin: int) -> np.ndarray:
    return difference[margin:-margin, margin:-margin]


def test_decode_is_pillows():
    """Both are libjpeg-turbo with its slow, exact transform and smooth chroma."""
    for picture in (drawn(64, 48, 1)[:48], noise(40, 40)):
        assert decoded(jpeg(picture)).difference.max() == 0


def test_flip_solarize_and_erase_are_exact(found):
    for name, beside in (
        ("flip", "torchvision horizontal_flip"),
        ("solarize from 128", "torchvision solarize"),
        ("erase", "torchvision erase, white"),
    ):
        assert found[name, beside].difference.max() < 1e-4, name


def test_crops_are_torchvisions_but_for_the_edge(found):
    """Two pixels of the coarser grid at the edge see other neighbours (docs/parity.md); inside, rounding between the
    passes of the resize is on top."""
    for name in ("crop, smaller", "crop, larger"):
        pair = found[name, "torchvision resized_crop, bicubic, antialias"]
        assert inner(pair.difference, 6).max() < 0.75, name


@pytest.mark.parametrize("size", [48, 150])
def test_crops_are_pils_but_for_its_rounding_between_the_passes(size):
    """PIL with a box sees beyond the window as the graph does, but rounds to 0 to 255 after the rows: on sharp edges a
    cubic kernel overshoots, and what is cut off there is the gap. The oracle with that step is PIL, without it ours."""
    picture = noise(90, 101)
    y, x, h, w = 11, 9, 66, 71
    rows, columns = resampling(y, h, size, 90), resampling(x, w, size, 101)
    across = np.einsum("jb,abc->ajc", columns, picture.astype(np.float64))
    box = (x, y, x + w, y + h)
    by_pil = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box=box))
    rounded = np.einsum("ia,ajc->ijc", rows, np.clip(np.rint(across), 0, 255))
    assert np.abs(by_pil - np.clip(rounded, 0, 255)).max() < 1.01  # its weights are whole numbers of 22 bits
    got = ours(picture, size, region=[y, x, y + h, x + w])
    assert np.abs(got - np.clip(np.einsum("ia,ajc->ijc", rows, across), 0, 255)).max() < 0.75
    assert np.abs(got - by_pil).max() > 2


def test_warps_are_torchvisions_within_the_picture(found):
    """Float32 coordinates and the rounding; the border, where torchvision fills late, is judged in test_pixels."""
    for name, beside in (("rotation by 15 degrees", "rotate"), ("perspective", "perspective")):
        pair = found[name, f"torchvision {beside}, bilinear"]
        middle = slice(SIDE * 3 // 10, SIDE * 7 // 10)
        assert pair.difference[middle, middle].max() < 0.75, name


def test_brightness_saturation_and_grey_are_torchvisions(found):
    """DALI's YIQ coefficients have three digits: at most .006 x 255 where colours change."""
    assert found["brightness 1.3", "torchvision adjust_*"].difference.max() < 0.01
    for name in ("saturation 0.5", "grey"):
        assert found[name, "torchvision adjust_*"].difference.max() < 0.006 * 255, name


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_contrast_is_torchvisions_about_another_centre(picture, factor):
    """ours - theirs = (1 - factor) (128 - mean grey) before both are clipped."""
    crop = np.asarray(Image.fromarray(PICTURES[picture]).resize((SIDE, SIDE)))
    # torchvision's mean grey is that of its grey picture in floats.
    gap = (1 - factor) * (128 - (crop @ np.array([0.2989, 0.587, 0.114])).mean())
    theirs_unclipped = crop * factor + (1 - factor) * (crop @ np.array([0.2989, 0.587, 0.114])).mean()
    expected = np.clip(theirs_unclipped + gap, 0, 255)
    assert np.abs(ours(crop, SIDE, COLORS, contrast=factor) - expected).max() < 0.01
    by_torchvision = theirs(crop, lambda t: tv.adjust_contrast(t, factor))
    assert np.abs(by_torchvision - np.clip(theirs_unclipped, 0, 255)).max() < 0.05


@pytest.mark.parametrize("turn", [20.0, -36.0])
def test_hue_keeps_luma_where_torchvision_keeps_the_largest_channel(turn):
    """The gap between YIQ and HSV, on muted colours that neither clips."""
    crop = (noise(SIDE, SIDE).astype(int) // 8 + 112).astype(np.uint8)
    ours_turned = ours(crop, SIDE, COLORS, hue_degrees=turn)
    assert np.abs(ours_turned @ LUMA - crop @ LUMA).max() < 0.006 * 255
    theirs_turned = theirs(crop, lambda t: tv.adjust_hue(t, turn / 360))
    assert np.abs(theirs_turned.max(axis=-1) - crop.max(axis=-1)).max() < 0.01
    assert np.abs(theirs_turned @ LUMA - crop @ LUMA).max() > 1


def test_blur_is_torchvisions_with_the_whole_window(found):
    """Three sigmas to each side. A window of 9 pixels cuts off 2 (1 - Phi(2.25)) = 2.4 % a direction at sigma 2."""
    assert found["blur, sigma 0.5", "torchvision gaussian_blur, 5 x 5"].difference.max() < ROUNDING
    assert found["blur, sigma 2", "torchvision gaussian_blur, 13 x 13"].difference.max() < ROUNDING
    assert found["blur, sigma 2", "torchvision gaussian_blur, 9 x 9"].difference.max() < 2 * 0.0244 * 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalize_is_torchvisions_and_rounded_once(dtype):
    picture = noise(31, 31)
    got = crops_of([picture], 31, still_plan([(31, 31)], 31), dtype=str(dtype).removeprefix("torch."))[0]
    assert np.array_equal(got, torch.tensor(picture, dtype=torch.float32).to(dtype).float().numpy())


def test_the_page_is_what_the_command_writes(tmp_path):
    photograph = tmp_path / "photograph.png"
    Image.fromarray(PICTURES["smooth"]).save(photograph)
    assert main(["--photograph", str(photograph), "--out", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "parity.md").read_text().splitlines()
    assert len(rows) == 2 + 22 and rows[2].startswith("| decode | Pillow | 0.00 | 0.0 |")
    for name in ("geometry", "colour"):
        sheet = Image.open(io.BytesIO((tmp_path / "out" / f"parity-{name}.jpg").read_bytes()))
        assert sheet.width == 300 + 3 * 156 and np.asarray(sheet).std() > 10
