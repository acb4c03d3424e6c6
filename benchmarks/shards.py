"""How fast shards are built beside a bare Pillow loop on the same files, and the memory that catalogues take.

    python -m benchmarks.shards --data photographs/ --out records.jsonl
    python -m benchmarks.shards --images 0 --memory --scale 1000000 --out records.jsonl

The Pillow loop does to each file: open; draft mode to no less than twice the wanted side, as the builder does; decode;
convert to RGB; resize to a long side of 512 with the builder's filter; encode as JPEG of quality 90, 4:2:0. A build
with ``--preprocess none`` makes the same pixels of them, and hashes, writes tars and tables. The default one, H, is
held against a loop that also pads to a square, as H's JPEGs are: looking for the white border and trimming it come on
top. Both read from the page cache; a build's time holds the start of its children and the whole manifest.
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.archive import folder_name, write
from benchmarks.catalogues import build_and_open, drawn_photographs, manifest_of, photographs_of
from benchmarks.options import above_0, count, count_or_none
from shards.build import build
from shards.errors import exit_with
from skill_fast.telemetry.provenance import provenance

SIDE = 512
GOAL_OF_PILLOW = 0.85
GOAL_OF_TWO = 1.8
LOOP, LOOP_2 = "pillow loop, 1 process", "pillow loop, 2 processes"
SQUARE, SQUARE_2 = "pillow loop to squares, 1 process", "pillow loop to squares, 2 processes"
Record = dict[str, Any]


def pillow_loop(files: Sequence[Path], *, square: bool = False) -> None:
    for file in files:
        image = Image.open(file)
        image.draft("RGB", _fit(image.size, 2 * SIDE, math.ceil))
        image = image.convert("RGB")
        image = image.resize(_fit(image.size, SIDE, round), Image.Resampling.LANCZOS, reducing_gap=3.0)
        if square:
            padded = Image.new("RGB", (max(image.size),) * 2, "white")
            padded.paste(image, ((padded.width - image.width) // 2, (padded.height - image.height) // 2))
            image = padded
        image.save(io.BytesIO(), "JPEG", quality=90, subsampling=2)


squares_loop = partial(pillow_loop, square=True)


def _fit(size: tuple[int, int], side: int, rounded: Callable[[float], int]) -> tuple[int, int]:
    share = min(1.0, side / max(size))
    return rounded(size[0] * share), rounded(size[1] * share)


def speed(
    files: Sequence[Path], repeats: int, scratch: Path, late: Callable[[], bool] = lambda: False
) -> Iterator[list[Record]]:
    """images/s of the loop and of the build with one and two processes, interleaved; ratios are within a repeat.

    Yields the records so far after each measurement; none begins that would be ``late``.
    """
    pillow_loop(files)
    manifest = manifest_of(files, scratch / "manifest.csv")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(pillow_loop, [files[:1]] * 8))
        variants: dict[str, Callable[[], object]] = {
            LOOP: lambda: pillow_loop(files),
            SQUARE: lambda: squares_loop(files),
            "build without H, 1 worker": lambda: _build(manifest, scratch, 1, "none"),
            "build, 1 worker": lambda: _build(manifest, scratch, 1, "catalog"),
            LOOP_2: lambda: list(pool.map(pillow_loop, _chunks(files))),
            SQUARE_2: lambda: list(pool.map(squares_loop, _chunks(files))),
            "build without H, 2 workers": lambda: _build(manifest, scratch, 2, "none"),
            "build, 2 workers": lambda: _build(manifest, scratch, 2, "catalog"),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        shapes = {"images": len(files), "source_mb": megabytes, "long_side": SIDE}
        for name, work in list(variants.items()) * repeats:
            if late():
                return
            seconds[name].append(_timed(work))
            yield [*_rates(seconds, len(files), megabytes, shapes), *_ratios(seconds, shapes)]


def _chunks(files: Sequence[Path], size: int = 16) -> list[Sequence[Path]]:
    return [files[start : start + size] for start in range(0, len(files), size)]


def _build(manifest: Path, scratch: Path, workers: int, preprocess: str) -> None:
    build(manifest, scratch / "out", workers=workers, preprocess=preprocess, overwrite=True)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds, and CPU seconds of this process and of those that ended meanwhile."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _rates(
    seconds: dict[str, list[tuple[float, float]]], images: int, megabytes: float, shapes: Record
) -> list[Record]:
    records = []
    for name, times in [(name, times) for name, times in seconds.items() if times]:
        cores = 2 if "2" in name else 1
        rates = sorted(images / wall for wall, _ in times)
        record: Record = {"what": f"shards/speed/{name}", "value": statistics.median(rates), "unit": "images/s"}
        record |= {"quantiles": {"min": rates[0], "max": rates[-1]}, "repeats": len(times), "warm_up": 1}
        record |= {"images_per_s_per_core": statistics.median(rates) / cores, "shapes": shapes}
        record |= {"mb_per_s_per_core": statistics.median(rates) / cores * megabytes / images}
        # Processes of the pool end later than they are measured.
        if name not in (LOOP_2, SQUARE_2):
            record |= {"cpu_ms_per_image": statistics.median(cpu for _, cpu in times) / images * 1000}
        records.append(record)
    return records


def _ratios(seconds: dict[str, list[tuple[float, float]]], shapes: Record) -> list[Record]:
    asked: list[tuple[str, str, float | None, int]] = []
    for build_of, loop, loop_2 in (("build without H", LOOP, LOOP_2), ("build", SQUARE, SQUARE_2)):
        one, two = f"{build_of}, 1 worker", f"{build_of}, 2 workers"
        wall = ((one, loop, GOAL_OF_PILLOW), (two, loop_2, GOAL_OF_PILLOW), (two, one, GOAL_OF_TWO))
        asked += [(*pair, 0) for pair in wall]
        asked.append((one, loop, GOAL_OF_PILLOW, 1))
    asked.append((LOOP_2, LOOP, None, 0))
    return [_ratio(seconds, *pair, shapes) for pair in asked if seconds[pair[0]] and seconds[pair[1]]]


def _ratio(
    seconds: dict[str, list[tuple[float, float]]], of: str, base: str, goal: float | None, clock: int, shapes: Record
) -> Record:
    """How many times as fast ``of`` is as ``base``, by the wall clock (0) or in CPU time (1), repeat by repeat."""
    ratios = sorted(slow[clock] / fast[clock] for fast, slow in zip(seconds[of], seconds[base]))
    record: Record = {"what": f"shards/ratio/{of} to {base}{', CPU' * clock}", "value": statistics.median(ratios)}
    record |= {"unit": "times", "goal": goal, "quantiles": {"min": ratios[0], "max": ratios[-1]}}
    return record | {"repeats": len(ratios), "warm_up": 1, "shapes": shapes}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.shards", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    parser.add_argument("--data", help="a folder or manifest of photographs (default: drawn ones of 1200 x 1600)")
    parser.add_argument("--images", type=count_or_none, default=400, help="photographs for the speed; 0 leaves it out")
    parser.add_argument("--repeats", type=count, default=3, help="of each speed (default %(default)s)")
    parser.add_argument(
        "--memory",
        type=count,
        nargs="*",
        default=[10_000, 100_000],
        help="products whose builds' peaks are compared",
    )
    parser.add_argument(
        "--scale", type=count_or_none, default=0, help="products of a catalogue that is built and opened"
    )
    parser.add_argument("--workers", type=count, default=2, help="for --memory and --scale (default %(default)s)")
    parser.add_argument("--budget-s", type=above_0, default=math.inf, help="no measurement starts after it (none)")
    parser.add_argument("--scratch", type=Path, help="folder for what is built (default: a temporary one)")
    options = parser.parse_args(arguments)
    return exit_with(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    records: list[Record] = []
    shared, began = (
        {"data": folder_name(options.data) if options.data else "drawn", **provenance()},
        time.perf_counter(),
    )

    def late() -> bool:
        return time.perf_counter() - began > options.budget_s

    def keep(new: list[Record]) -> None:
        if options.out:
            write(options.out, (record | shared for record in [*records, *new]))

    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder, new = Path(scratch), []
        if options.images:
            files = photographs_of(options.data) if options.data else drawn_photographs(folder / "drawn")
            for new in speed(_repeated(files, options.images), options.repeats, folder, late):
                keep(new)
            _tell(records, new)
        for products, kind in (*((n, "memory") for n in options.memory), (options.scale, "scale")):
            if products and late():
                print(f"{products} products: not begun within the budget of {options.budget_s:.0f} s")
            elif products:
                new = build_and_open(products, folder, options.workers, kind)
                keep(new)
                _tell(records, new)
    if options.out:
        print(f"{options.out}: {len(records)} records")


def _repeated(files: list[Path], images: int) -> list[Path]:
    return (files * -(-images // len(files)))[:images]


def _tell(records: list[Record], new: list[Record]) -> None:
    for record in new:
        goal = f"   (goal {record['goal']})" if record.get("goal") else ""
        core = f"   {record['mb_per_s_per_core']:.1f} MB/s per core" if "mb_per_s_per_core" in record else ""
        cpu = f", {record['cpu_ms_per_image']:.2f} CPU ms an image" if "cpu_ms_per_image" in record else ""
        print(f"{record['what']:70} {record['value']:10.4g} {record['unit']}{goal}{core}{cpu}", flush=True)
    records += new


if __name__ == "__main__":
    sys.exit(main())
