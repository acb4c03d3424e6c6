"""Ways to arrange the pixel graph, side by side: the same photographs and plans, batches in turns, in one process.

    python -m benchmarks.arrangements --data SHARDS --out records.jsonl

2 x 224 + 8 x 96 crops of two photographs of a product, G and A by product type. All graphs are fed the same batches,
so that a turn differs in the arrangement alone; reading and planning are done before. products/s are medians over the
turns, ratios are within a turn. cpu_ms_a_product is what all threads of the process spent.

    as the loader has it     what crop_graph takes on this device
    one decode a crop        ten decoders instead of two: what sharing the decoded photograph saves
    the other rounding       8 bits between the operations instead of floats, or the reverse
    no conditions            every sample is warped and blurred, by an identity where its plan says nothing
    dynamic executor         DALI's own default
    without X                what is left when colour, blur, A (warp and erasing), or all of them are not there
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import write
from benchmarks.feeds import VIEWS, Source
from benchmarks.options import count
from shards.errors import BadUsage, exit_with
from skill_fast.data.dali import PixelGraph, device_id
from skill_fast.data.loader import LoaderConfig
from skill_fast.data.pipeline import ON_CPU, ON_GPU, Arrangement, crop_graph
from skill_fast.data.views import GenericAugmentation, ViewGroup
from skill_fast.telemetry.provenance import provenance

DEPTH = 2
Feed = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One arrangement: its graph and which of a batch's inputs it is fed."""

    groups: tuple[ViewGroup, ...]
    arrangement: Arrangement
    photographs: int = 2
    designed: bool = True
    """With A, the product type's own augmentation."""


def ways(on_cpu: bool) -> dict[str, Way]:
    usual = ON_CPU if on_cpu else ON_GPU
    plain = Way(VIEWS, usual)

    def generic(**probabilities: float) -> tuple[ViewGroup, ...]:
        return tuple(replace(group, generic=GenericAugmentation(**probabilities)) for group in VIEWS)

    colorless = {"jitter_p": 0.0, "gray_p": 0.0}
    found = {
        "as the loader has it": plain,
        "one decode a crop": replace(plain, groups=_decoded_each(VIEWS), photographs=sum(g.views for g in VIEWS)),
        "the other rounding": replace(plain, arrangement=replace(usual, in_float=not usual.in_float)),
        "no conditions": replace(plain, arrangement=replace(usual, conditions=False)),
        "without colour": replace(plain, groups=generic(**colorless)),
        "without blur": replace(plain, groups=generic(blur_p=0.0)),
        "without A": replace(plain, designed=False),
        "decode, resize, normalise": Way(generic(blur_p=0.0, **colorless), usual, designed=False),
    }
    if on_cpu:  # with a GPU there is no other executor
        found["dynamic executor"] = replace(plain, arrangement=replace(usual, dynamic=True))
    return found


def _decoded_each(groups: Sequence[ViewGroup]) -> tuple[ViewGroup, ...]:
    """Every view shows a photograph of its own number, so that the graph has a decoder for each."""
    found, number = [], 0
    for group in groups:
        found.append(replace(group, photographs=tuple(range(number, number + group.views))))
        number += group.views
    return tuple(found)


def fed(way: Way, feed: Feed) -> Feed:
    """Of a batch's inputs those that the way's graph has."""
    dropped = () if way.designed else ("resized", "homography", "bent", "erase_anchor", "erase_shape")
    if all(not g.generic.blur_p for g in way.groups):
        dropped += ("blur_sigma", "blurred")
    if all(not g.generic.jitter_p for g in way.groups):
        dropped += ("brightness", "contrast", "saturation", "hue_degrees")
    if not way.arrangement.conditions:
        dropped += ("bent", "blurred")
    kept = {name: data for name, data in feed.items() if name.rpartition("/")[2] not in dropped}
    if way.photographs > 2:
        jpegs = [feed[f"jpeg/{shown}"] for group in VIEWS for shown in group.photographs]
        kept |= {f"jpeg/{number}": jpeg for number, jpeg in enumerate(jpegs)}
    return kept


def build(way: Way, options: argparse.Namespace) -> PixelGraph:
    config = LoaderConfig()
    return crop_graph(
        way.groups,
        options.batch,
        photographs=way.photographs,
        bends=way.designed,
        erases=way.designed,
        mean=config.mean,
        std=config.std,
        dtype="float32" if options.device == "cpu" else "float16",
        threads=options.threads,
        depth=DEPTH,
        device_id=device_id(torch.device(options.device)),
        arrangement=way.arrangement,
    )


def turn(graph: PixelGraph, feeds: Sequence[Feed], wait: Any) -> tuple[float, float]:
    """Seconds by the clock and of CPU for all batches, the pipeline kept ``DEPTH`` ahead and empty at the end."""
    began, cpu = time.perf_counter(), time.process_time()
    for number, feed in enumerate(feeds):
        graph.submit(feed)
        if number >= DEPTH - 1:
            graph.collect(wait)
            graph.release()
    for _ in range(DEPTH - 1):
        graph.collect(wait)
        graph.release()
    if wait is not None:
        wait.synchronize()
    return time.perf_counter() - began, time.process_time() - cpu


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    source = Source(options.data, options.batch, pace=0.0)
    batches = [source(step) for step in range(options.batches)]
    found = ways(options.device == "cpu")
    wait = None if options.device == "cpu" else torch.cuda.current_stream()
    graphs = {name: build(way, options) for name, way in found.items()}
    feeds = {name: [fed(way, batch) for batch in batches] for name, way in found.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for number in range(options.turns + 1):  # the first one warms up
        for name in found:
            spent = turn(graphs[name], feeds[name], wait)
            times[name] += [spent] if number else []
    products = options.batches * options.batch
    usual = [clock for clock, _ in times["as the loader has it"]]
    records = []
    for name, spent in times.items():
        rates = sorted(products / clock for clock, _ in spent)
        ratios = sorted(mine / clock for mine, (clock, _) in zip(usual, spent))
        records.append(
            {
                "what": f"arrangements/{name}", "value": statistics.median(rates), "unit": "products/s",
                "quantiles": {"min": rates[0], "max": rates[-1]}, "repeats": len(rates),
                "ratio_to": "as the loader has it", "ratio": statistics.median(ratios),
                "ratios": [ratios[0], ratios[-1]],
                "cpu_ms_a_product": 1e3 * statistics.median(cpu for _, cpu in spent) / products,
                "shapes": {"batch": options.batch, "crops": {g.name: [g.views, g.size] for g in VIEWS}},
                "threads": options.threads, "batches_a_turn": options.batches,
            }
        )  # fmt: skip
    return records


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit code."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="benchmarks.arrangements", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    parser.add_argument("--batch", type=count, default=256 if gpu else 16, help="products (default %(default)s)")
    parser.add_argument("--batches", type=count, default=8, help="in a turn (default %(default)s)")
    parser.add_argument("--turns", type=count, default=5, help="counted ones (default %(default)s)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=count, default=cores, help="of DALI (default: the cores)")
    parser.add_argument("--device", default="cuda" if gpu else "cpu", help="(default %(default)s)")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if min(options.batches, options.turns) < 2:
        raise BadUsage("a turn needs two batches, a median two turns", change="--batches 2 --turns 2 or more")
    records = measure(options)
    shared = {"data": Path(options.data).name, "device": options.device, **provenance()}
    for record in records:
        low, high = record["ratios"]
        print(
            f"{record['what'].partition('/')[2]:28} {record['value']:8.1f} products/s  {record['ratio']:5.2f} "
            f"({low:.2f} to {high:.2f})  {record['cpu_ms_a_product']:6.2f} CPU ms a product"
        )
    if options.out:
        write(options.out, (record | shared for record in records))


if __name__ == "__main__":
    sys.exit(main())
