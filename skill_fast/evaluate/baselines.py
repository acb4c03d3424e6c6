"""Embeddings that nobody trained: raw pixels, grey pixels and a colour histogram of the same evaluation crop.

Each takes [n, 3, H, W] float in [0, 1] and gives [n, D] float, as an encoder does. If grey pixels retrieve a design as
well as the encoder does, the photographs are aligned too well for the score to say anything.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from skill_fast.evaluate.color_names import foreground

PIXEL_SIDE = 16
HISTOGRAM_BINS = 4
"""Bins a channel: 4 x 4 x 4."""


def raw_pixels(images: Tensor) -> Tensor:
    """The crop averaged down to 16 x 16, less its mean value, L2-normalised: [n, 768]."""
    return _centred_unit(adaptive_avg_pool2d(images, PIXEL_SIDE).flatten(1))


def grey_pixels(images: Tensor) -> Tensor:
    """The crop's luma (ITU-R BT.601) averaged down to 16 x 16, less its mean, L2-normalised: [n, 256]."""
    luma = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    return _centred_unit(adaptive_avg_pool2d(luma, PIXEL_SIDE).flatten(1))


def color_histogram(images: Tensor) -> Tensor:
    """Share of the foreground's pixels in each of 4 x 4 x 4 cells of the RGB cube: [n, 64], rows sum to 1."""
    levels = (images * HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1)
    cells = (levels[:, 0] * HISTOGRAM_BINS + levels[:, 1]) * HISTOGRAM_BINS + levels[:, 2]
    shown = foreground(images).flatten(1).to(images.dtype)
    counts = images.new_zeros(len(images), HISTOGRAM_BINS**3).scatter_add_(1, cells.flatten(1), shown)
    return counts / counts.sum(dim=1, keepdim=True)


def _centred_unit(values: Tensor) -> Tensor:
    return normalize(values - values.mean(dim=1, keepdim=True), dim=1)


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "raw pixels": raw_pixels,
    "grey pixels": grey_pixels,
    "colour histogram": color_histogram,
}
