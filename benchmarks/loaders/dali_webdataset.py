"""DALI's own webdataset reader with random operators inside the graph, as its multi-crop examples are built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types

from benchmarks.loaders import MEAN, STD, Crops, G, Job
from skill_fast.data.index import open_index
from skill_fast.data.views import ViewGroup

DEPTH = 2


def batches(job: Job) -> Iterator[Crops]:
    """The reader has a fixed list of members a product: the first two photographs of products that have two, else the
    first one twice. It decodes the same number of photographs as the others, of fewer products."""
    shards = sorted(str(path) for path in Path(job.data).glob("shard-*.tar"))
    index = open_index(job.data)
    pairs = int((np.asarray(index.images_per_product) > 1).sum()) >= 2 * job.batch
    on_gpu = job.device != "cpu"
    pipeline = _graph(
        shards, pairs, on_gpu, job.views,
        batch_size=job.batch, num_threads=job.workers, device_id=0 if on_gpu else None, seed=job.seed,
        prefetch_queue_depth=DEPTH, exec_dynamic=on_gpu, set_affinity=False,
    )  # fmt: skip
    pipeline.build()
    while True:
        outputs = iter([output.as_tensor() for output in pipeline.run()])
        yield Crops({g.name: torch.stack([_tensor(next(outputs), on_gpu) for _ in g.photographs]) for g in job.views})


def _tensor(output: Any, on_gpu: bool) -> torch.Tensor:
    return torch.from_dlpack(output) if on_gpu else torch.from_numpy(np.asarray(output))


@pipeline_def(enable_conditionals=True)
def _graph(shards: list[str], pairs: bool, on_gpu: bool, views: Sequence[ViewGroup]) -> tuple[Any, ...]:
    members = fn.readers.webdataset(
        paths=shards,
        index_paths=[str(Path(shard).with_suffix(".idx")) for shard in shards],
        ext=["00.jpg", "01.jpg"] if pairs else ["00.jpg"],
        missing_component_behavior="skip",
        random_shuffle=True,
        initial_fill=500,
        dont_use_mmap=True,
        name="reader",
    )
    jpegs = list(members) if pairs else [members] * 2
    device = "mixed" if on_gpu else "cpu"
    images = [fn.decoders.image(jpeg, device=device, output_type=types.DALIImageType.RGB) for jpeg in jpegs]
    return tuple(_crop(images[shown], group, on_gpu) for group in views for shown in group.photographs)


def _crop(image: Any, group: ViewGroup, on_gpu: bool) -> Any:
    image = fn.random_resized_crop(
        image,
        size=group.size,
        random_area=list(group.scale),
        random_aspect_ratio=list(group.aspect),
        interp_type=types.DALIInterpType.INTERP_CUBIC,
        antialias=True,
    )
    # "With probability p" as conditions of the graph, so that what is not drawn is not computed.
    if fn.random.coin_flip(probability=G.jitter_p, dtype=types.DALIDataType.BOOL):
        image = fn.color_twist(
            image,
            brightness=fn.random.uniform(range=[1 - G.brightness, 1 + G.brightness]),
            contrast=fn.random.uniform(range=[1 - G.contrast, 1 + G.contrast]),
            saturation=fn.random.uniform(range=[1 - G.saturation, 1 + G.saturation]),
            hue=fn.random.uniform(range=[-360 * G.hue, 360 * G.hue]),
        )
    if fn.random.coin_flip(probability=G.gray_p, dtype=types.DALIDataType.BOOL):
        image = fn.hsv(image, saturation=0.0)
    if fn.random.coin_flip(probability=G.blur_p, dtype=types.DALIDataType.BOOL):
        image = fn.gaussian_blur(image, sigma=fn.random.uniform(range=list(G.blur_sigma)))
    return fn.crop_mirror_normalize(
        image,
        mirror=fn.random.coin_flip(probability=G.flip_p),
        mean=[255 * m for m in MEAN],
        std=[255 * s for s in STD],
        dtype=types.DALIDataType.FLOAT16 if on_gpu else types.DALIDataType.FLOAT,
        output_layout="CHW",
    )
