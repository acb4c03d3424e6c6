"""The webdataset package reading tars as streams, PIL and torchvision behind it, worker processes of a WebLoader."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import webdataset as wds

from benchmarks.loaders import Crops, Job, stacked
from benchmarks.loaders.photographs import PREFETCH_FACTOR, moved
from benchmarks.loaders.torchvision_pil import MultiCrop
from skill_fast.data.views import ViewGroup

SHUFFLED = 500


class _TwoOf:
    """A product's members -> crops of two of its photographs, drawn at random."""

    def __init__(self, views: Sequence[ViewGroup]) -> None:
        self._make = MultiCrop(views)

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, Any, tuple[str, str]]:
        photographs = sorted(name for name in sample if name.endswith(".jpg"))
        first = random.choice(photographs)
        second = random.choice([name for name in photographs if name != first] or [first])
        return *self._make(sample[first], sample[second]), (sample["__key__"], sample["__key__"])


def batches(job: Job) -> Iterator[Crops]:
    shards = sorted(str(path) for path in Path(job.data).glob("shard-*.tar"))
    # Resampled: every worker reads from all shards, however few there are, and the stream has no end.
    products = wds.WebDataset(shards, resampled=True, shardshuffle=False, seed=job.seed).shuffle(SHUFFLED)
    made = products.map(_TwoOf(job.views)).batched(job.batch, collation_fn=stacked, partial=False)
    prefetch = PREFETCH_FACTOR if job.workers else None
    loader = wds.WebLoader(made, batch_size=None, num_workers=job.workers, prefetch_factor=prefetch)
    for crops in loader:
        yield moved(crops, job.device)
