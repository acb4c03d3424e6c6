"""Ways to turn shards into multi-crop batches that ``benchmarks.loader`` compares: a module a contender.

Each module has ``batches(job)``: an endless iterator of ``Crops``, random ones but for ours, which are planned. It
raises ``CanNot`` with the reason where a contender can not run on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.processes import CanNot
from skill_fast.data.views import GenericAugmentation, ViewGroup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
G = GenericAugmentation()


def views(global_size: int = 224, local_size: int = 96, local_crops: int = 8) -> tuple[ViewGroup, ViewGroup]:
    """The crops of one product: two global ones, one of each photograph, and local ones of the first."""
    local = ViewGroup("local", (0,) * local_crops, local_size, (0.05, 0.4), generic=G)
    return ViewGroup("global", (0, 1), global_size, (0.4, 1.0), generic=G), local


VIEWS = views()

CONTENDERS = {
    "ours": "ours",
    "torchvision + PIL DataLoader": "torchvision_pil",
    "kornia on batches": "kornia_batches",
    "ours, recipes by type": "ours",
    "ours, no colour, no blur": "ours",
    "ours, decode only": "ours",
    "DALI readers.webdataset, random inside": "dali_webdataset",
    "torchvision v2 on tensors": "torchvision_v2",
    "webdataset + torchvision": "webdataset_torchvision",
    "SPDL + torchvision v2": "spdl_torchvision",
}
"""In the order of measurement: what a short budget leaves is the ratio of ours to the base."""
BASE = "torchvision + PIL DataLoader"

__all__ = ["BASE", "CONTENDERS", "MEAN", "STD", "VIEWS", "CanNot", "Crops", "G", "Job", "stacked", "views"]


@dataclass(frozen=True)
class Job:
    """What every contender is given alike."""

    name: str
    data: str
    batch: int
    workers: int
    """Threads or processes: the cores of the machine."""
    device: str
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Of ours: a point of a sweep, as ``LoaderConfig`` has it."""
    global_size: int = 224
    local_size: int = 96
    local_crops: int = 8

    @property
    def views(self) -> tuple[ViewGroup, ViewGroup]:
        return views(self.global_size, self.local_size, self.local_crops)


@dataclass
class Crops:
    """crops: view group -> [views, batch, 3, size, size], normalised. products: the product that each of the two
    photographs shows, by sample, where a contender can tell."""

    crops: dict[str, Tensor]
    products: list[tuple[Any, Any]] | None = None


def stacked(samples: list[tuple[list[Tensor], list[Tensor], tuple[Any, Any]]]) -> Crops:
    """A collate function: samples of (global crops, local crops, products) to [views, batch, ...]."""
    crops = {
        name: torch.stack([torch.stack(view) for view in zip(*(sample[place] for sample in samples))])
        for place, name in enumerate(("global", "local"))
    }
    return Crops(crops, [sample[2] for sample in samples])
