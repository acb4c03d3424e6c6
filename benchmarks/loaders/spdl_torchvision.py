"""SPDL: threads that read and decode without the interpreter's lock, torchvision v2 behind it.

It decodes with FFmpeg's libraries where they are installed, else with torchvision's ``decode_jpeg``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torchvision

from benchmarks.loaders import CanNot, Crops, Job, stacked
from benchmarks.loaders.photographs import Pairs, moved
from benchmarks.loaders.torchvision_v2 import MultiCropV2, decoded
from skill_fast.data.views import ViewGroup


class _Make:
    """Both photographs' bytes -> crops; ``decode``: bytes -> [3, H, W] uint8 that owns its memory."""

    def __init__(self, decode: Callable[[bytes], torch.Tensor], views: Sequence[ViewGroup]) -> None:
        self._decode, self._v2 = decode, MultiCropV2(views)

    def __call__(self, first: bytes, second: bytes) -> tuple[list[Any], list[Any]]:
        return self._v2.of_images([self._decode(first), self._decode(second)])


def _decoder() -> Callable[[bytes], torch.Tensor]:
    import spdl.io

    def by_ffmpeg(data: bytes) -> torch.Tensor:
        frames = spdl.io.decode_packets(spdl.io.demux_image(data), filter_desc="format=pix_fmts=rgb24")
        return spdl.io.to_torch(spdl.io.convert_frames(frames)).permute(2, 0, 1).contiguous()

    try:
        by_ffmpeg(torchvision.io.encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8)).numpy().tobytes())
    except RuntimeError:  # "Failed to import libspdl": no FFmpeg on this machine
        return decoded
    return by_ffmpeg


def batches(job: Job) -> Iterator[Crops]:
    try:
        from spdl.pipeline import PipelineBuilder
    except ImportError as error:
        raise CanNot(f"spdl is not installed: {error}") from error
    torch.set_num_threads(1)  # as in a DataLoader's workers: the pipeline's threads are the parallelism
    pairs = Pairs(job.data, _Make(_decoder(), job.views))

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
        .build(num_threads=job.workers, max_failures=0)
    )
    with pipeline.auto_stop():
        for crops in pipeline:
            yield moved(crops, job.device)
