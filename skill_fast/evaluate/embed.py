"""Photographs and products to embeddings, and the command ``skill-embed`` that writes them as Parquet."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.data.shard_cache import add_cache_options, cache_config
from skill_fast.errors import BadUsage, NotFinite, exit_with
from skill_fast.evaluate.products import SPLITS, choose_split, product_rows
from skill_fast.evaluate.similarity import unit_rows
from skill_fast.models.encoder import Encoder, load_encoder

BATCH_SIZE = 128
LABELS = ("product_type", "color", "pattern", "variant_group", "split")

Embedder = Callable[[Tensor], Tensor]
"""[n, 3, H, W] float in [0, 1] -> [n, D] float; an encoder or a baseline."""


def choose_device(name: str | None = None) -> torch.device:
    """``name``, or the GPU where there is one; raises BadUsage for what this machine does not have."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadUsage(f"device '{name}' is not known", allowed="cpu, cuda, cuda:N", change="--device") from None
    if device.type not in ("cpu", "cuda"):
        raise BadUsage(f"device '{name}' can not be used here", allowed="cpu, cuda, cuda:N", change="--device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadUsage(
            f"device '{name}' does not exist: this machine shows {torch.cuda.device_count()} GPUs",
            allowed="cpu, or a GPU that is there",
            change="--device cpu",
        )
    return device


def embed_all(
    index: CatalogueIndex,
    embedders: Mapping[str, Embedder],
    image_rows: np.ndarray,
    *,
    resize: int,
    crop: int,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    done: Callable[[int], object] = lambda photographs: None,
) -> dict[str, np.ndarray]:
    """Read and decode each photograph once and show it to every embedder.

    image_rows [images]: rows of images.parquet -> embedder name -> [images, D] float32 in the same order. ``done`` is
    called with the number of photographs of each finished batch. Raises BadData for an unusable photograph, NotFinite
    for an embedder that gives NaN or infinity.
    """
    threads = threads or len(os.sched_getaffinity(0))
    loader = EvaluationLoader(
        index, image_rows, resize=resize, crop=crop, batch_size=batch_size, device=device, threads=threads
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in embedders}
    with torch.inference_mode():
        for rows, images in loader:
            for name, embedder in embedders.items():
                found[name].append(embedder(images).float().cpu().numpy())
            done(len(rows))
    vectors = {name: np.concatenate(parts) for name, parts in found.items()}
    for name, rows_of_name in vectors.items():
        if not np.isfinite(rows_of_name).all():
            raise NotFinite(f"embedding '{name}' has values that are not finite", change="use an earlier checkpoint")
    return vectors


def embed(
    index: CatalogueIndex,
    encoder: Encoder,
    image_rows: np.ndarray,
    *,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    done: Callable[[int], object] = lambda photographs: None,
) -> np.ndarray:
    """Embeddings of photographs under the encoder's own evaluation crop: [images] -> [images, D] float32."""
    encoder.to(device).eval()
    return embed_all(
        index,
        {"encoder": encoder},
        image_rows,
        resize=encoder.resize,
        crop=encoder.image_size,
        batch_size=batch_size,
        device=device,
        threads=threads,
        done=done,
    )["encoder"]


def product_means(embeddings: np.ndarray, product_of_image: np.ndarray) -> np.ndarray:
    """A product's embedding: the L2-normalised mean of its photographs', in ascending order of ``product_of_image``.

    embeddings [images, D] float32, product_of_image [images] int -> [products, D] float32. (METHOD: evaluation.)
    """
    products, place = np.unique(product_of_image, return_inverse=True)
    sums = np.zeros((len(products), embeddings.shape[1]), dtype=np.float64)
    np.add.at(sums, place, embeddings)
    return unit_rows(sums / np.bincount(place)[:, None])


class PhotographsPerSecond(ProgressColumn):
    """Speed since the start, photographs/s."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} photographs/s" if speed else "")


def progress_bar() -> Progress:
    """A line that updates on stderr: done, speed, time left."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), PhotographsPerSecond()
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def write_embeddings(
    path: Path, index: CatalogueIndex, image_rows: np.ndarray, embeddings: np.ndarray, metadata: Mapping[str, str]
) -> Path:
    """Write a row per photograph to ``path`` and a row per product to ``products_path(path)``, which is returned.

    Columns: product_id, key, view (photographs) or images (products), product_type, color, pattern, variant_group,
    split, embedding (fixed-size list of float32). ``metadata`` stands in both schemas.
    """
    products = np.asarray(index.product[image_rows])
    of_products, counts = np.unique(products, return_counts=True)
    views = {"view": pa.array(np.asarray(index.view[image_rows], dtype=np.int32))}
    images = {"images": pa.array(counts.astype(np.int32))}
    _write_table(path, index, products, views, embeddings, metadata)
    beside = products_path(path)
    _write_table(beside, index, of_products, images, product_means(embeddings, products), metadata)
    return beside


def products_path(path: Path) -> Path:
    """FILE.parquet -> FILE.products.parquet."""
    return path.with_name(path.name.removesuffix(".parquet") + ".products.parquet")


def _write_table(
    path: Path,
    index: CatalogueIndex,
    products: np.ndarray,
    extra: Mapping[str, pa.Array],
    embeddings: np.ndarray,
    metadata: Mapping[str, str],
) -> None:
    columns = {name: pa.array(index.column(name)[products].tolist(), pa.string()) for name in ("product_id", "key")}
    columns |= extra
    columns |= {name: pa.array(index.column(name)[products].tolist(), pa.string()) for name in LABELS}
    flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).ravel())
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(pa.table(columns).replace_schema_metadata(dict(metadata)), temporary)
    os.replace(temporary, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-embed RUN --data DIR --out FILE.parquet``; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-embed", description="Write embeddings of a data set as Parquet."
    )
    parser.add_argument("run", metavar="RUN", help="run folder with model.json and teacher.safetensors")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of shards, or s3:// or gs:// address")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.parquet")
    parser.add_argument("--split", default="all", help=", ".join(SPLITS) + " (default: all)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU where there is one)")
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    _check(options.out, options.batch_size)
    encoder, index = load_encoder(options.run), open_index(options.data, cache_config(options))
    rows = index.images_of(product_rows(index, choose_split(index, options.split)))
    started = time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task("embedding", total=len(rows))
        vectors = embed(
            index,
            encoder,
            rows,
            batch_size=options.batch_size,
            device=choose_device(options.device),
            done=lambda photographs: progress.advance(task, photographs),
        )
    seconds = time.perf_counter() - started
    about = {
        "run": str(options.run),
        "step": str(encoder.about.get("step", "")),
        "trained_on": str(encoder.about.get("dataset", "")),
        "dataset": index.fingerprint,
        "split": options.split,
        "resize": str(encoder.resize),
        "image_size": str(encoder.image_size),
    }
    beside = write_embeddings(options.out, index, rows, vectors, about)
    speed = f"{seconds:.1f} s, {len(rows) / seconds:,.0f} photographs/s"
    print(f"{len(rows)} photographs, {vectors.shape[1]} values each ({speed})")
    print(f"photographs: {options.out}\nproducts:    {beside}")


def _check(out: Path, batch_size: int) -> None:
    if out.suffix != ".parquet":
        raise BadUsage(f"--out {out}", allowed="a file name that ends in .parquet", change="--out FILE.parquet")
    if not out.parent.is_dir():
        raise BadUsage(f"the folder '{out.parent}' does not exist", change=f"mkdir -p {out.parent}")
    if batch_size < 1:
        raise BadUsage(f"--batch-size {batch_size}", allowed="1 or more", change="--batch-size")


if __name__ == "__main__":
    sys.exit(main())
