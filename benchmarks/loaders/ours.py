"""This project's loader, whole and in parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.loaders import CanNot, Crops, Job
from skill_fast.data.index import open_index
from skill_fast.data.loader import EvaluationLoader, Loader, LoaderConfig
from skill_fast.data.views import ViewGroup


def batches(job: Job) -> Iterator[Crops]:
    if job.name == "ours, decode only":
        yield from _decoded(job)
    half = job.device != "cpu"
    recipes = "by_type" if job.name == "ours, recipes by type" else "none"
    config = LoaderConfig(recipes=recipes, threads=job.workers, dtype="float16" if half else "float32", **job.settings)
    views = _without_color(job.views) if job.name == "ours, no colour, no blur" else job.views
    options = {"global_batch": job.batch, "seed": job.seed, "config": config, "device": job.device}
    with Loader(open_index(job.data), views, **options) as loader:
        for batch in loader:
            products = [(product, product) for product in batch.products.tolist()]
            yield Crops(batch.crops, products)


def _without_color(groups: tuple[ViewGroup, ...]) -> tuple[ViewGroup, ...]:
    plain = {"jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0}
    return tuple(replace(group, generic=replace(group.generic, **plain)) for group in groups)


def _decoded(job: Job) -> Iterator[Crops]:
    """Each photograph decoded and cut to 8 x 8 pixels at once: what reading and decoding alone cost."""
    index = open_index(job.data)
    images = index.images_of(index.select("train"))
    pairs = len(images) // (2 * job.batch) * 2 * job.batch
    if not pairs:
        raise CanNot(f"{len(images)} photographs are fewer than two batches of {job.batch}")
    options = {"resize": 8, "crop": 8, "batch_size": 2 * job.batch, "threads": job.workers, "device": job.device}
    for _ in range(sys.maxsize):
        for _, photographs in EvaluationLoader(index, images[:pairs], **options):
            yield Crops({"decoded": torch.stack(photographs.chunk(2))})
