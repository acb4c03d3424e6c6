"""Two photographs of a product as a map-style data set: their bytes by pread from the shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.loaders import Crops, Job, stacked
from skill_fast.data.index import CatalogueIndex, open_index

PREFETCH_FACTOR = 2
"""Batches that a worker process has under way or ready."""


class Pairs(Dataset[Any]):
    """Item i: photograph i of the training split, another one of its product (itself where it is the only one), made
    into (global crops, local crops, products) by ``make(first bytes, second bytes)``."""

    def __init__(self, data: str, make: Callable[[bytes, bytes], tuple[list[Any], list[Any]]]) -> None:
        self.index: CatalogueIndex = open_index(data)
        self.images = self.index.images_of(self.index.select("train"))
        self._make = make
        self._open: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[list[Any], list[Any], tuple[int, int]]:
        first = int(self.images[place])
        product = int(self.index.product[first])
        start, count = int(self.index.first_image[product]), int(self.index.images_per_product[product])
        second = first
        if count > 1:
            second = start + (first - start + int(np.random.randint(1, count))) % count
        crops = self._make(self._read(first), self._read(second))
        return *crops, (product, int(self.index.product[second]))

    def _read(self, image: int) -> bytes:
        shard = int(self.index.shard[image])
        if shard not in self._open:  # in the worker that reads: descriptors are not shared
            self._open[shard] = os.open(self.index.shard_path(image), os.O_RDONLY)
        return os.pread(self._open[shard], int(self.index.size[image]), int(self.index.offset[image]))


class Endless(Sampler[int]):
    """Every place once, shuffled, then again: a DataLoader that ends lets its queue run dry, after every few batches
    of the small data sets that are measured on, and has no batch at all where one is larger than the data set."""

    def __init__(self, places: int) -> None:
        self._places = places

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self._places).tolist()


def data_loader(job: Job, pairs: Pairs) -> DataLoader[Crops]:
    """Shuffled and without end, with a worker process a core."""
    pinned = job.device != "cpu"
    return DataLoader(
        pairs,
        batch_size=job.batch,
        sampler=Endless(len(pairs)),
        num_workers=job.workers,
        collate_fn=stacked,
        prefetch_factor=PREFETCH_FACTOR if job.workers else None,
        pin_memory=pinned,
    )


def moved(crops: Crops, device: str) -> Crops:
    if device == "cpu":
        return crops
    return Crops({name: crop.to(device, non_blocking=True) for name, crop in crops.crops.items()}, crops.products)
