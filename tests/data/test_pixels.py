"""What the pixel graph does, operation by operation, against numpy in float64 and against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from skill_fast.data.views import GenericAugmentation
from tests.data.conftest import drawn
from tests.data.graphs import PLAIN, crops_of, still_plan, warped

WINDOWS = [  # height, width of the photograph; y, x, height, width of the window; side of the crop
    (64, 64, 3, 5, 40, 51, 48),
    (90, 70, 0, 0, 90, 70, 33),
    (50, 61, 20, 10, 12, 16, 24),
    (61, 83, 1, 2, 59, 80, 7),
]
COLORS = GenericAugmentation(flip_p=0, jitter_p=1, gray_p=0, blur_p=0)
BLUR = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=1)
SOLARIZE = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=0, solarize_p=1)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resampling(start: float, extent: float, size: int, pixels: int) -> np.ndarray:
    """[size, pixels] weights: the kernel as wide as the step when shrinking, the photograph's border repeated."""
    weights = np.zeros((size, pixels))
    step = extent / size
    width = max(step, 1.0)
    for i in range(size):
        center = start + (i + 0.5) * step
        for k in range(int(center - 2 * width) - 2, int(center + 2 * width) + 3):
            weights[i, min(max(k, 0), pixels - 1)] += cubic((k + 0.5 - center) / width)
        weights[i] /= weights[i].sum()
    return weights


def resized(picture: np.ndarray, y: float, x: float, h: float, w: float, out_h: int, out_w: int) -> np.ndarray:
    rows = resampling(y, h, out_h, picture.shape[0])
    columns = resampling(x, w, out_w, picture.shape[1])
    return np.clip(np.einsum("ia,jb,abc->ijc", rows, columns, picture.astype(np.float64)), 0, 255)


@pytest.mark.parametrize(("H", "W", "y", "x", "h", "w", "size"), WINDOWS)
def test_resize_is_the_antialiased_cubic_of_the_window(H, W, y, x, h, w, size):
    picture = noise(H, W)
    plan = still_plan([(H, W)], size, region=np.array([[y, x, y + h, x + w]]))
    expected = resized(picture, y, x, h, w, size, size)
    # Half a level is the rounding to 8 bits; the rest float32 weights, rounded once between the two passes.
    assert np.abs(crops_of([picture], size, plan)[0] - expected).max() < 0.75


@pytest.mark.parametrize(("H", "W", "y", "x", "h", "w", "size"), WINDOWS)
def test_crops_are_torchvisions_resized_crops(H, W, y, x, h, w, size):
    """The same pixels to the rounding, but at the edge, on the worst picture there is: noise.

    DALI's kernel sees the photograph beyond the window and repeats the photograph's border; torchvision has cut the
    window out before and leaves weights away. So the edge, as far as the kernel reaches (2 pixels of the coarser of the
    two grids), is left out here, and bounded on a smooth picture below. torchvision works in float: its 8-bit path
    rounds between the passes as well.
    """
    got, cut = both_ways(noise(H, W), y, x, h, w, size)
    reach_y, reach_x = (int(np.ceil(2 * max(1, size / n))) for n in (h, w))
    difference = np.abs(got - cut)[reach_y : size - reach_y, reach_x : size - reach_x]
    assert difference.size and difference.max() < 0.75


@pytest.mark.parametrize(("H", "W", "y", "x", "h", "w", "size"), WINDOWS)
def test_crops_differ_from_torchvisions_by_little_at_the_edge(H, W, y, x, h, w, size):
    """On a smooth picture. Seen: at most 4.0 of 255, where 12 x 16 pixels become 24 (the border is a large part), and
    0.7 on average, where 59 x 80 become 7; rounding to 8 bits alone is 0.25.
    """
    got, cut = both_ways(drawn(H, W, 1), y, x, h, w, size)
    assert np.abs(got - cut).max() < 5 and np.abs(got - cut).mean() < 1


def both_ways(picture, y, x, h, w, size):
    plan = still_plan([picture.shape[:2]], size, region=np.array([[y, x, y + h, x + w]]))
    tensor = torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1)
    cut = torchvision.resized_crop(tensor, y, x, h, w, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return crops_of([picture], size, plan)[0], cut.permute(1, 2, 0).clamp(0, 255).numpy()


def yiq_matrix(saturation: float, hue_degrees: float) -> np.ndarray:
    """Colours turned about grey in YIQ and scaled by the saturation, as an RGB matrix."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = np.deg2rad(hue_degrees)
    chroma = saturation * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = np.eye(3)
    middle[1:, 1:] = chroma
    return np.linalg.inv(to_yiq) @ middle @ to_yiq


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation", "hue"),
    [
        *[(1, 1, 1, 0), (1.4, 1, 1, 0), (0.6, 1, 1, 0), (1, 0.6, 1, 0), (1, 1.4, 1, 0), (1, 1, 0, 0), (1, 1, 0.5, 0)],
        *[(1, 1, 1, 36), (1, 1, 1, -170), (1.2, 0.7, 1.2, 30), (0.7, 1.3, 0.0, 90)],
    ],
)
def test_color_twist_is_its_formula(brightness, contrast, saturation, hue):
    """brightness (contrast (M x - 128) + 128), M in YIQ: one step, clipped once.

    torchvision's jitter differs: HSV hue, contrast about the picture's mean grey, a random order, clipping between.
    """
    picture = noise(33, 33)
    values = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue_degrees": hue}
    plan = still_plan([(33, 33)], 33, **{k: np.array([v]) for k, v in values.items()})
    turned = picture @ yiq_matrix(saturation, hue).T
    expected = np.clip(brightness * (contrast * (turned - 128) + 128), 0, 255)
    got = crops_of([picture], 33, plan, generic=COLORS)[0]
    # DALI's YIQ coefficients have three digits: some .006 x 255 beside the rounding.
    assert np.abs(got - expected).max() < 2
    if saturation == 0:
        assert np.ptp(got, axis=-1).max() <= 2


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 1.7, 2.0])
def test_blur_is_a_gaussian(sigma):
    picture = noise(31, 31)
    got = crops_of([picture], 31, still_plan([(31, 31)], 31, blur_sigma=np.array([sigma])), generic=BLUR)[0]
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    expected = picture.astype(np.float64)
    for axis in (0, 1):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(expected, pads, mode="reflect")
        expected = sum(t * np.take(padded, np.arange(31) + k, axis=axis) for k, t in enumerate(taps))
    assert np.abs(got - expected).max() < 0.51  # rounding to 8 bits


def test_identities_change_nothing():
    """A probability that did not fire costs no accuracy: all operations at rest give the very pixels.

    But for the last digits of float32: the colour twist at rest is a product with a matrix that rounds to identity.
    """
    picture = noise(40, 40)
    everything = GenericAugmentation(flip_p=1, jitter_p=1, gray_p=1, blur_p=1, solarize_p=1)
    got = crops_of([picture], 40, still_plan([(40, 40)], 40), generic=everything, bends=True, erases=True)
    assert np.abs(got[0] - picture).max() < 1e-4


def test_solarize_erase_and_mirror_are_exact():
    pictures = [noise(30, 30, seed) for seed in range(3)]
    plan = still_plan(
        [(30, 30)] * 3,
        30,
        solarize_from=np.array([128, 256, 0]),
        erase_box=np.array([[3, 4, 10, 5], [0, 0, 0, 0], [0, 0, 30, 1]]),
        mirror=np.array([0, 1, 1]),
    )
    got = crops_of(pictures, 30, plan, generic=SOLARIZE, erases=True)
    first = np.where(pictures[0] >= 128, 255 - pictures[0], pictures[0])
    first[3:13, 4:9] = 255
    third = 255 - pictures[2]
    third[:, :1] = 255
    for crop, expected in zip(got, (first, pictures[1][:, ::-1], third[:, ::-1])):
        assert np.array_equal(crop, expected)


@pytest.mark.parametrize(
    "homography",
    [
        [[0.9, -0.3, 4.2], [0.3, 0.9, -3.7], [0, 0, 1]],
        [[1.1, 0.1, -2], [0.05, 0.8, 3], [0.004, -0.003, 1]],
        [[0, 1, 0], [-1, 0, 21], [0, 0, 1]],
        [[1, 0, 40], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_warp_is_bilinear_and_white_outside(homography):
    picture = drawn(21, 21, 2)
    plan = still_plan([(21, 21)], 21, homography=np.array([homography]))
    got = crops_of([picture], 21, plan, bends=True)[0]
    difference = np.abs(got - warped(picture, np.array(homography), 21))
    assert difference.max() < 0.75  # rounding, and float32 coordinates
    if homography[0][2] == 40:
        assert (got == 255).all()


def test_half_precision_is_float32_rounded():
    picture = noise(20, 20)
    plan = still_plan([(20, 20)], 20)
    assert np.array_equal(crops_of([picture], 20, plan, dtype="float16"), crops_of([picture], 20, plan))


def test_plain_graph_has_no_colour_or_blur():
    """Where nothing of a group can change colour the operations are left out: the resize alone."""
    picture = noise(25, 25)
    plan = still_plan([(25, 25)], 25, brightness=np.array([0.0]), blur_sigma=np.array([2.0]))
    assert np.array_equal(crops_of([picture], 25, plan, generic=PLAIN)[0], picture)
