"""The recipe of the original DINO's time: PIL images, torchvision transforms, a DataLoader with worker processes."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image, ImageFilter
from torchvision import transforms as T

from benchmarks.loaders import MEAN, STD, Crops, G, Job
from benchmarks.loaders.photographs import Pairs, data_loader, moved
from skill_fast.data.views import ViewGroup


class PilBlur:
    """Gaussian blur by PIL, its radius drawn from G's sigmas."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*G.blur_sigma)))


def transform(group: ViewGroup) -> T.Compose:
    return T.Compose(
        [
            T.RandomResizedCrop(group.size, group.scale, group.aspect, T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(G.flip_p),
            T.RandomApply([T.ColorJitter(G.brightness, G.contrast, G.saturation, G.hue)], G.jitter_p),
            T.RandomGrayscale(G.gray_p),
            T.RandomApply([PilBlur()], G.blur_p),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )


class MultiCrop:
    """Two photographs' bytes -> two global crops, one of each, and eight local crops of the first."""

    def __init__(self, views: Sequence[ViewGroup]) -> None:
        self._global, self._local = (transform(group) for group in views)
        self._local_crops = views[1].views

    def __call__(self, first: bytes, second: bytes) -> tuple[list[Any], list[Any]]:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in (first, second)]
        return [self._global(image) for image in images], [self._local(images[0]) for _ in range(self._local_crops)]


def batches(job: Job) -> Iterator[Crops]:
    for crops in data_loader(job, Pairs(job.data, MultiCrop(job.views))):
        yield moved(crops, job.device)
