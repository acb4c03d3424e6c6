"""What broken photographs cost the loader: a data set beside a copy of it of which 1 % is broken.

    python -m benchmarks.faults --data SHARDS --out records.jsonl

Photographs are broken in place, and the tables vouch for what they became, so that no crc32 tells: cut short, empty, a
header that can not be, and sampling factors that only the decoder refuses. Both loaders live at once and take turns,
``--block`` steps each, so that what else the machine does meets both alike. Beside the ratio by the clock stands that
of the CPU time of all threads, which other programs change much less. Records are written after each two blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.archive import folder_name, write
from benchmarks.loaders import VIEWS
from benchmarks.options import count
from shards.errors import BadUsage, exit_with
from shards.index import sealed
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.telemetry.provenance import provenance

SHARE = 0.01
GOAL = 0.98


def cut_short(file: bytes) -> bytes:
    return file[: len(file) // 2] + bytes(len(file) - len(file) // 2)


def emptied(file: bytes) -> bytes:
    return bytes(len(file))


def scrambled_header(file: bytes) -> bytes:
    return file[:30] + b"\x55" * 400 + file[430:]


def fractional_sampling(file: bytes) -> bytes:
    """Factors of 3, 2 and 1: the markers are in order, libjpeg-turbo refuses it."""
    frame, found = file.index(b"\xff\xc0\x00\x11"), bytearray(file)
    found[frame + 11 : frame + 20 : 3] = bytes((0x31, 0x21, 0x11))
    return bytes(found)


WAYS: tuple[Callable[[bytes], bytes], ...] = (cut_short, emptied, scrambled_header, fractional_sampling)


def break_photographs(
    folder: Path, share: float, seed: int = 0, ways: Sequence[Callable[[bytes], bytes]] = WAYS
) -> dict[int, str]:
    """Break ``share`` of a data set's photographs in place, by ``ways`` in turn; row in images.parquet -> how."""
    rows = pq.read_table(folder / "images.parquet")
    dataset = json.loads((folder / "dataset.json").read_text())
    chosen = np.random.default_rng(seed).permutation(len(rows))[: round(share * len(rows))].tolist()
    crc32, broken = rows["crc32"].to_pylist(), {}
    for number, image in enumerate(chosen):
        way = ways[number % len(ways)]
        shard, offset, size = (rows[name][image].as_py() for name in ("shard", "offset", "size"))
        with open(folder / dataset["shards"][shard]["name"], "r+b") as tar:
            tar.seek(offset)
            file = way(tar.read(size))
            tar.seek(offset)
            tar.write(file)
        crc32[image], broken[image] = zlib.crc32(file), way.__name__
    place = rows.column_names.index("crc32")
    rows = rows.set_column(place, rows.field(place), pa.array(crc32, rows.field(place).type))
    pq.write_table(rows, folder / "images.parquet")
    content = (folder / "images.parquet").read_bytes()
    dataset["tables"]["images.parquet"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "dataset.json").write_bytes(sealed(dataset))
    return broken


def measure(options: argparse.Namespace, scratch: Path) -> Iterator[list[dict[str, Any]]]:
    """The records so far, after each two blocks; from the second two on, as quantiles are over blocks."""
    copy = Path(shutil.copytree(options.data, scratch / "broken"))
    broken = break_photographs(copy, SHARE, ways=[way for way in WAYS if way.__name__ in options.ways])
    config = LoaderConfig(recipes="none", max_skipped_share=1.0)
    common: dict[str, Any] = {"global_batch": options.batch, "config": config, "device": options.device}
    listed = scratch / "skipped.jsonl"
    blocks = Blocks(options.block * options.batch)
    with (
        Loader(open_index(options.data), VIEWS, **common) as clean,
        Loader(open_index(copy), VIEWS, **common, skipped_path=listed) as damaged,
    ):
        loaders = {"clean": clean, "broken": damaged}
        shapes = {"batch": options.batch, "photographs": damaged.index.images}
        for block in range(options.steps // options.block):
            for name in ("clean", "broken") if block % 2 else ("broken", "clean"):
                start, cpu = time.perf_counter(), time.process_time()
                for _ in range(options.block):
                    next(loaders[name])
                blocks.seconds[name].append(time.perf_counter() - start)
                blocks.cpu_s[name] += time.process_time() - cpu
            if block:
                shapes["steps"] = (block + 1) * options.block
                lines = listed.read_text().splitlines() if listed.is_file() else []
                found = {json.loads(line)["image"] for line in lines}
                about = {"shapes": dict(shapes), "dtype": config.dtype, "warm_up": 0}
                counts = {"skipped": damaged.skipped, "ways": sorted(set(broken.values()))}
                yield blocks.records(broken.keys(), found, counts, about)


@dataclass
class Blocks:
    """What both loaders took for the blocks so far, of ``products`` each."""

    products: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"clean": [], "broken": []})
    cpu_s: dict[str, float] = field(default_factory=lambda: {"clean": 0.0, "broken": 0.0})

    def records(
        self, broken: Collection[int], found: set[int], counts: dict[str, Any], about: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """broken, found: rows in images.parquet that were broken, and that the loader left out."""
        clean, damaged = self.seconds["clean"], self.seconds["broken"]
        products = self.products * len(damaged)
        rates = {name: products / sum(spent) for name, spent in self.seconds.items()}
        return [
            *({"what": f"faults/{name}", "value": rate, "unit": "products/s", **about} for name, rate in rates.items()),
            {
                "what": "faults/1 % broken to clean", "value": sum(clean) / sum(damaged), "unit": "times",
                "goal": GOAL, "quantiles": _spread([c / b for c, b in zip(clean, damaged)]),
                "ratio_of_cpu_time": self.cpu_s["clean"] / self.cpu_s["broken"],
                "cpu_ms_a_product": {name: 1e3 * spent / products for name, spent in self.cpu_s.items()},
                "broken": len(broken), "found": len(found & set(broken)), "found_wrongly": len(found - set(broken)),
                **counts, **about,
            },
        ]  # fmt: skip


def _spread(ratios: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(ratios, n=10)
    return {"p10": cuts[0], "p50": cuts[4], "p90": cuts[8]}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    parser.add_argument("--batch", type=count, default=8, help="products (default %(default)s)")
    parser.add_argument("--steps", type=count, default=1000, help="of each of the two (default %(default)s)")
    parser.add_argument("--block", type=count, default=25, help="steps in a turn (default %(default)s)")
    names = [way.__name__ for way in WAYS]
    parser.add_argument("--ways", nargs="+", choices=names, default=names, help="how photographs are broken (all)")
    parser.add_argument("--device", default="cpu")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if options.steps < 2 * options.block:
        raise BadUsage(
            f"--steps {options.steps}, --block {options.block}",
            allowed="two blocks of steps or more: quantiles are over blocks",
            change=f"--steps {2 * options.block}",
        )
    shared = {"data": folder_name(options.data), "device": options.device, **provenance()}
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for records in measure(options, Path(scratch)):
            if options.out:
                write(options.out, (record | shared for record in records))
    for record in records:
        print(f"{record['what']:30} {record['value']:8.4g} {record['unit']}")
    last = records[-1]
    print(f"by CPU time {last['ratio_of_cpu_time']:.3f} times")
    print(f"broken {last['broken']}, found {last['found']}, found wrongly {last['found_wrongly']}; {last['skipped']}")


if __name__ == "__main__":
    sys.exit(main())
