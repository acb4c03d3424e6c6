"""SPDL: threads that read and decode (FFmpeg, without the interpreter's lock), torchvision v2 behind it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.loaders import CanNot, Crops, Job, stacked
from benchmarks.loaders.photographs import Pairs, moved
from benchmarks.loaders.torchvision_v2 import MultiCropV2


class _Make:
    def __init__(self, spdl_io: Any) -> None:
        self._io, self._v2 = spdl_io, MultiCropV2()

    def __call__(self, first: bytes, second: bytes) -> tuple[list[Any], list[Any]]:
        return self._v2.of_images([self._decoded(first), self._decoded(second)])

    def _decoded(self, data: bytes) -> torch.Tensor:
        """[3, H, W] uint8 that owns its memory."""
        frames = self._io.decode_packets(self._io.demux_image(data), filter_desc="format=pix_fmts=rgb24")
        return self._io.to_torch(self._io.convert_frames(frames)).permute(2, 0, 1).contiguous()


def batches(job: Job) -> Iterator[Crops]:
    try:
        import spdl.io
        from spdl.pipeline import PipelineBuilder
    except ImportError as error:
        raise CanNot(f"spdl is not installed: {error}") from error
    torch.set_num_threads(1)  # as in a DataLoader's workers: the pipeline's threads are the parallelism
    pairs = Pairs(job.data, _Make(spdl.io))

    def places() -> Iterator[int]:
        generator = random.Random(job.seed)
        while True:
            order = list(range(len(pairs)))
            generator.shuffle(order)
            yield from order

    pipeline = (
        PipelineBuilder()
        .add_source(places())
        .pipe(pairs.__getitem__, concurrency=job.workers)
        .aggregate(job.batch)
        .pipe(stacked)
        .add_sink(2)
        .build(num_threads=job.workers)
    )
    with pipeline.auto_stop():
        for crops in pipeline:
            yield moved(crops, job.device)
