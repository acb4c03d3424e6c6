"""kornia: worker processes decode, the batch is augmented as a whole on the device, a transformation for each view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.loaders import MEAN, STD, CanNot, Crops, G, Job
from benchmarks.loaders.photographs import Pairs, data_loader
from benchmarks.loaders.torchvision_v2 import KERNEL, decoded
from skill_fast.data.views import ViewGroup

SIDE = 512


def squared(first: bytes, second: bytes) -> tuple[list[Tensor], list[Tensor]]:
    """Both photographs on white squares of the shards' long side: kornia wants the images of a batch of one size."""
    squares = []
    for data in (first, second):
        image = decoded(data)
        square = image.new_full((3, SIDE, SIDE), 255)
        top, left = (SIDE - image.shape[1]) // 2, (SIDE - image.shape[2]) // 2
        square[:, top : top + image.shape[1], left : left + image.shape[2]] = image
        squares.append(square)
    return squares, []


def augmentation(group: ViewGroup) -> nn.Module:
    import kornia.augmentation as K
    from kornia.constants import Resample

    size = (group.size, group.size)
    return K.AugmentationSequential(
        K.RandomResizedCrop(size, group.scale, group.aspect, resample=Resample.BICUBIC.name, p=1.0),
        K.RandomHorizontalFlip(p=G.flip_p),
        K.ColorJitter(G.brightness, G.contrast, G.saturation, G.hue, p=G.jitter_p),
        K.RandomGrayscale(p=G.gray_p),
        K.RandomGaussianBlur((KERNEL, KERNEL), G.blur_sigma, p=G.blur_p),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )


class _OnlyPhotographs(Pairs):
    """Both squares of a product and nothing else: the crops are made of them on the device."""

    def __getitem__(self, place: int) -> Any:
        both, _, products = super().__getitem__(place)
        return torch.stack(both), products


def _gathered(samples: list[Any]) -> tuple[Tensor, list[Any]]:
    return torch.stack([photographs for photographs, _ in samples]), [products for _, products in samples]


def batches(job: Job) -> Iterator[Crops]:
    try:
        augmentations = [augmentation(group) for group in job.views]
    except ImportError as error:
        raise CanNot(f"kornia is not installed: {error}") from error
    loader = data_loader(job, _OnlyPhotographs(job.data, squared))
    loader.collate_fn = _gathered
    for photographs, products in loader:
        # [batch, 2, 3, SIDE, SIDE] uint8 -> float in [0, 1], on the device
        images = photographs.to(job.device, non_blocking=True).float().div_(255)
        with torch.no_grad():
            crops = {
                group.name: torch.stack([augment(images[:, shown]) for shown in group.photographs])
                for group, augment in zip(job.views, augmentations)
            }
        yield Crops(crops, products)
