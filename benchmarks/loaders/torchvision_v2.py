"""torchvision's second generation on uint8 tensors: decode_jpeg, transforms.v2, a DataLoader with worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from benchmarks.loaders import MEAN, STD, Crops, G, Job
from benchmarks.loaders.photographs import Pairs, data_loader, moved
from skill_fast.data.views import ViewGroup

KERNEL = 9
"""Of the blur: torchvision wants it fixed; 9 pixels hold two standard deviations of the widest."""


def transform(group: ViewGroup) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(group.size, group.scale, group.aspect, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(G.flip_p),
            v2.RandomApply([v2.ColorJitter(G.brightness, G.contrast, G.saturation, G.hue)], G.jitter_p),
            v2.RandomGrayscale(G.gray_p),
            v2.RandomApply([v2.GaussianBlur(KERNEL, G.blur_sigma)], G.blur_p),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )


class MultiCropV2:
    """As ``torchvision_pil.MultiCrop``, on tensors."""

    def __init__(self, views: Sequence[ViewGroup]) -> None:
        self._global, self._local = (transform(group) for group in views)
        self._local_crops = views[1].views

    def __call__(self, first: bytes, second: bytes) -> tuple[list[Any], list[Any]]:
        return self.of_images([decoded(first), decoded(second)])

    def of_images(self, images: list[torch.Tensor]) -> tuple[list[Any], list[Any]]:
        """images: two of [3, H, W] uint8."""
        return [self._global(image) for image in images], [self._local(images[0]) for _ in range(self._local_crops)]


def decoded(data: bytes) -> torch.Tensor:
    return decode_jpeg(torch.from_numpy(np.frombuffer(data, np.uint8).copy()), ImageReadMode.RGB)


def batches(job: Job) -> Iterator[Crops]:
    for crops in data_loader(job, Pairs(job.data, MultiCropV2(job.views))):
        yield moved(crops, job.device)
