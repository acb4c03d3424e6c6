"""Catalogues to measure on: photographs that exist, drawn ones, and synthetic ones of millions of products.

A build whose memory is measured runs in a fresh process (``python -m benchmarks.catalogues build ...``), which samples
children and reports its own peak; so does the opening for training.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.build import build
from shards.errors import BadUsage
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.product import Product

DISTINCT = 300
"""Different photographs of a synthetic catalogue; products share them."""
TINY_SIDE = 32
SAMPLE_S = 0.2
MIB = 2**20


def photographs_of(source: str) -> list[Path]:
    """The files of a catalogue, in its order. Raises BadUsage where it names none."""
    entries = open_catalogue(source, choose_format(source)).entries
    files = [
        photograph
        for entry in entries
        if isinstance(entry, Product)
        for photograph in entry.photographs
        if isinstance(photograph, Path) and photograph.is_file()
    ]
    if not files:
        raise BadUsage(f"'{source}' names no photographs", allowed="a folder or manifest of local photographs")
    return files


def manifest_of(files: Sequence[Path], manifest: Path) -> Path:
    """A manifest of one product a photograph."""
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("product_id", "image_path"))
        rows.writerows((f"p{number:07d}", str(path.absolute())) for number, path in enumerate(files))
    return manifest


def drawn_photographs(folder: Path, count: int = 24, width: int = 1200, height: int = 1600) -> list[Path]:
    """JPEGs of a textured shape on noisy near-white, as cameras make them."""
    folder.mkdir()
    y, x = np.mgrid[0:height, 0:width]
    inside = (((x - width / 2) / (0.35 * width)) ** 2 + ((y - height / 2) / (0.4 * height)) ** 2 < 1)[..., None]
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        waves = [128 + 90 * np.sin(x * a + y * b) for a, b in rng.uniform(0.005, 0.3, (3, 2))]
        pixels = np.where(inside, np.stack(waves, -1), 252) + rng.normal(0, 2, (height, width, 3))
        files.append(folder / f"{number:03d}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(files[-1], quality=92, subsampling=2)
    return files


def synthetic_catalogue(products: int, folder: Path) -> Path:
    """A manifest of ``products`` rows over tiny JPEGs; written in memory that does not grow."""
    folder.mkdir(exist_ok=True)
    for number in range(DISTINCT):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
        tiny = Image.fromarray(pixels).resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BICUBIC)
        tiny.save(folder / f"{number:03d}.jpg", quality=90, subsampling=2)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("product_id", "image_path", "product_type", "color"))
        for number in range(products):
            photograph = f"{number * 7919 % DISTINCT:03d}.jpg"
            rows.writerow((f"product-{number:09d}", photograph, f"type-{number % 40}", f"color-{number % 12}"))
    return folder / "manifest.csv"


def build_and_open(products: int, scratch: Path, workers: int, group: str) -> list[dict[str, Any]]:
    """Build a synthetic catalogue, then open it for training, each in a fresh process; the records of both."""
    folder = scratch / f"{group}-{products}"
    manifest = synthetic_catalogue(products, folder)
    built = _in_fresh_process("build", manifest, folder / "out", workers)
    opened = _in_fresh_process("open", folder / "out")
    shutil.rmtree(folder)
    shapes = {"products": products, "images": products, "side": TINY_SIDE, "workers": workers}
    values = [
        ("build", built["seconds"], "s", None),
        ("build rate", products / built["seconds"], "products/s", None),
        ("build, peak of the parent", built["parent_mib"], "MiB", None),
        ("build, peak of a child", built["child_mib"], "MiB", None),
        ("size of the data set", built["bytes"] / MIB, "MiB", None),
        ("open for training", opened["seconds"], "s", 3.0),
        ("open, peak beyond the imports", opened["grown_mib"], "MiB", 300.0),
        ("open, peak of the process", opened["peak_mib"], "MiB", None),
    ]
    return [
        {"what": f"shards/{group}/{products}/{what}", "value": value, "unit": unit, "goal": goal, "shapes": shapes}
        for what, value, unit, goal in values
    ]


def _in_fresh_process(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.catalogues", *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def build_measured(manifest: str, out: str, workers: str) -> dict[str, float]:
    """Seconds, peaks of this process and of its heaviest child, and bytes of what was built."""
    peak_mib = 0.0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak_mib
        while not over.wait(SAMPLE_S):
            peak_mib = max([peak_mib, *map(peak_of, children_of(os.getpid()))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        dataset = build(manifest, out, workers=int(workers))
    finally:
        over.set()
        watcher.join()
    listed = [*dataset["shards"], *dataset["tables"].values()]
    return {
        "seconds": time.perf_counter() - began,
        "parent_mib": peak_of(os.getpid()),
        "child_mib": peak_mib,
        "bytes": sum(entry["bytes"] for entry in listed),
    }


def open_measured(folder: str) -> dict[str, float]:
    """Seconds and peak of opening a data set as each rank of a training does."""
    from skill_fast.data.index import open_index

    before = peak_of(os.getpid())
    began = time.perf_counter()
    index = open_index(folder)
    seconds = time.perf_counter() - began
    assert index is not None
    peak = peak_of(os.getpid())
    return {"seconds": seconds, "grown_mib": peak - before, "peak_mib": peak}


def children_of(process: int) -> list[int]:
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in threads for child in _text(file).split()]


def peak_of(process: int) -> float:
    """Peak of the resident memory in MiB; 0 for a process that is gone."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _text(Path(f"/proc/{process}/status")))
    return int(found[1]) / 1024 if found else 0.0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps({"build": build_measured, "open": open_measured}[sys.argv[1]](*sys.argv[2:])))
