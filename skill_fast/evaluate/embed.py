"""Photographs and products to embeddings, and the command ``skill-embed`` that writes them as Parquet."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skill_fast.data.cache_config import add_cache_options, cache_config
from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.engine.ranks import Joined, cores_of_rank, joined
from skill_fast.errors import BadUsage, NotFinite, exit_with
from skill_fast.evaluate.devices import rank_device
from skill_fast.evaluate.embedding_files import write_embeddings
from skill_fast.evaluate.parts import Parts
from skill_fast.evaluate.products import SPLITS, choose_split, product_rows
from skill_fast.evaluate.progress import progress_bar
from skill_fast.models.encoder import Encoder, load_encoder
from skill_fast.models.pooling import POOLINGS

BATCH_SIZE = 128
PART = 8192
"""Photographs a part, at most about a minute and a half of a CPU's work with a small encoder."""

Embedder = Callable[[Tensor], Tensor]
"""[n, 3, H, W] float in [0, 1] -> [n, D] float; an encoder or a baseline."""


def embedding_batches(
    index: CatalogueIndex,
    embedders: Mapping[str, Embedder],
    image_rows: np.ndarray,
    *,
    resize: int,
    crop: int,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Read and decode each photograph once and show it to every embedder, a batch after the other.

    image_rows [images]: rows of images.parquet; yields embedder name -> [batch, D] float32 in the same order. Raises
    BadData for an unusable photograph, NotFinite for an embedder that gives NaN or infinity.
    """
    threads = threads or len(os.sched_getaffinity(0))
    loader = EvaluationLoader(
        index, image_rows, resize=resize, crop=crop, batch_size=batch_size, device=device, threads=threads
    )
    for _, images in loader:
        with torch.inference_mode():
            vectors = {name: embedder(images).float().cpu().numpy() for name, embedder in embedders.items()}
        for name, values in vectors.items():
            if not np.isfinite(values).all():
                raise NotFinite(
                    f"embedding '{name}' has values that are not finite", change="use an earlier checkpoint"
                )
        yield vectors


def embed_all(
    index: CatalogueIndex,
    embedders: Mapping[str, Embedder],
    image_rows: np.ndarray,
    *,
    done: Callable[[int], object] = lambda photographs: None,
    **how: Any,
) -> dict[str, np.ndarray]:
    """All batches of ``embedding_batches``, whose options ``how`` takes: embedder name -> [images, D] float32.

    ``done`` is called with the number of photographs of each finished batch.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in embedders}
    for vectors in embedding_batches(index, embedders, image_rows, **how):
        for name, values in vectors.items():
            found[name].append(values)
        done(len(next(iter(vectors.values()))))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def embed(
    index: CatalogueIndex,
    encoder: Encoder,
    image_rows: np.ndarray,
    *,
    device: torch.device | str = "cpu",
    **how: Any,
) -> np.ndarray:
    """Embeddings of photographs under the encoder's own evaluation crop: [images] -> [images, D] float32."""
    encoder.to(device).eval()
    side = encoder.image_size
    return embed_all(index, {"encoder": encoder}, image_rows, resize=encoder.resize, crop=side, device=device, **how)[
        "encoder"
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-embed RUN --data DIR --out FILE.parquet``; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    options = _options(arguments)
    _check(options.out, options.batch_size, options.part)
    with joined() as ranks:
        device = rank_device(options.device)
        encoder = load_encoder(options.run, pooling=options.pooling)
        index = open_index(options.data, cache_config(options))
        rows = index.images_of(product_rows(index, choose_split(index, options.split)))
        about = _about(encoder, index, options.split)
        request = about | {"batch_size": str(options.batch_size), "device": device.type}
        size = -(-options.part // options.batch_size) * options.batch_size  # a batch never spans two parts
        folder = options.out.with_name(options.out.name + ".parts")
        parts = Parts(folder, request, photographs=len(rows), size=size, width=encoder.embed_dim)
        missing, started = _share(parts, ranks), time.perf_counter()
        mine = np.array_split(np.array(missing, dtype=np.int64), ranks.count)[ranks.rank].tolist()
        _embed_parts(parts, mine, index, encoder, rows, options.batch_size, device, ranks.rank == 0)
        ranks.wait_for_all()
        if ranks.rank > 0:
            return
        seconds = time.perf_counter() - started
        chunks = (parts.read(part) for part in range(parts.count))
        metadata = {"run": str(options.run)} | about
        beside = write_embeddings(options.out, index, rows, chunks, encoder.embed_dim, metadata)
        parts.remove()
    new = sum(parts.rows(part).stop - parts.rows(part).start for part in missing)
    of = f" of {len(rows)}" if new < len(rows) else ""
    speed = f"{seconds:.1f} s, {new / seconds:,.0f} photographs/s" + (
        f", {ranks.count} ranks" if ranks.count > 1 else ""
    )
    print(f"{new}{of} photographs, {encoder.embed_dim} values each, pooling {encoder.pooling} ({speed})")
    print(f"photographs: {options.out}\nproducts:    {beside}")


def _share(parts: Parts, ranks: Joined) -> list[int]:
    """The parts still to be made, the same list on every rank; rank 0 says what it found."""
    missing: list[int] = []
    if ranks.rank == 0:
        found = parts.open()
        missing = parts.missing()
        if found:
            print(found)
    missing = ranks.told_by_first(missing)
    parts.check()
    return missing


def _embed_parts(
    parts: Parts,
    mine: Sequence[int],
    index: CatalogueIndex,
    encoder: Encoder,
    rows: np.ndarray,
    batch_size: int,
    device: torch.device,
    shown: bool,
) -> None:
    """Make these parts, each written when it is whole; ``shown``: with a progress line."""
    wanted = np.concatenate([rows[parts.rows(part)] for part in mine]) if mine else rows[:0]
    encoder.to(device).eval()
    batches = embedding_batches(
        index,
        {"encoder": encoder},
        wanted,
        resize=encoder.resize,
        crop=encoder.image_size,
        batch_size=batch_size,
        device=device,
        threads=cores_of_rank(),
    )
    with progress_bar(disable=not shown) as progress:
        line = progress.add_task("embedding", total=len(wanted))
        for part in mine:
            rows_of_part, held = parts.rows(part), 0
            vectors = np.empty((rows_of_part.stop - rows_of_part.start, encoder.embed_dim), dtype=np.float32)
            while held < len(vectors):
                [batch] = next(batches).values()
                vectors[held : held + len(batch)] = batch
                held += len(batch)
                progress.advance(line, len(batch))
            parts.write(part, vectors)


def _about(encoder: Encoder, index: CatalogueIndex, split: str) -> dict[str, str]:
    """What the embeddings are of; it stands in the files' schema."""
    return {
        "step": str(encoder.about.get("step", "")),
        "weights": encoder.fingerprint(),
        "trained_on": str(encoder.about.get("dataset", "")),
        "dataset": index.fingerprint,
        "split": split,
        "pooling": encoder.pooling,
        "resize": str(encoder.resize),
        "image_size": str(encoder.image_size),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-embed", description="Write embeddings of a data set as Parquet."
    )
    parser.add_argument("run", metavar="RUN", help="run folder with model.json and teacher.safetensors")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of shards, or s3:// or gs:// address")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.parquet")
    parser.add_argument("--split", default="all", help=", ".join(SPLITS) + " (default: all)")
    parser.add_argument("--pooling", default="class", help=", ".join(POOLINGS) + " (default: class)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    part_help = f"photographs between two savings; the same command goes on behind them (default: {PART})"
    parser.add_argument("--part", type=int, default=PART, metavar="N", help=part_help)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU where there is one, each rank its own)")
    parser.add_argument("--local_rank", "--local-rank", help=argparse.SUPPRESS)  # from DeepSpeed's launcher
    add_cache_options(parser)
    return parser.parse_args(arguments)


def _check(out: Path, batch_size: int, part: int) -> None:
    if out.suffix != ".parquet":
        raise BadUsage(f"--out {out}", allowed="a file name that ends in .parquet", change="--out FILE.parquet")
    if not out.parent.is_dir():
        raise BadUsage(f"the folder '{out.parent}' does not exist", change=f"mkdir -p {out.parent}")
    for option, value in (("--batch-size", batch_size), ("--part", part)):
        if value < 1:
            raise BadUsage(f"{option} {value}", allowed="1 or more", change=option)


if __name__ == "__main__":
    sys.exit(main())
