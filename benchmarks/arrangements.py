"""Ways to arrange the pixel graph, side by side: the same photographs and plans, batches in turns, in one process.

    python -m benchmarks.arrangements --data SHARDS --out records.jsonl

2 x 224 + 8 x 96 crops of two photographs of a product, G and A by product type. All graphs are fed the same batches,
so that a turn differs in the arrangement alone; reading and planning are done before. products/s are medians over the
turns, ratios are within a turn. cpu_ms_a_product is what all threads of the process spent. Records are written after
each turn of an arrangement; none begins after ``--budget-s``.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import folder_name, write
from benchmarks.feeds import VIEWS, Source
from benchmarks.options import above_0, count
from benchmarks.pairing import ratio_to, told
from shards.errors import BadUsage, exit_with
from skill_fast.data.dali import PixelGraph, device_id
from skill_fast.data.loader import LoaderConfig
from skill_fast.data.pipeline import ON_CPU, ON_GPU, Arrangement, crop_graph
from skill_fast.data.views import GenericAugmentation, ViewGroup
from skill_fast.telemetry.provenance import provenance

DEPTH = 2
USUAL = "as the loader has it"
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
        USUAL: plain,
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
        dtype=dtype_on(options.device),
        threads=options.threads,
        depth=DEPTH,
        device_id=device_id(torch.device(options.device)),
        arrangement=way.arrangement,
    )


def dtype_on(device: str) -> str:
    """As the loader makes crops."""
    return "float32" if device == "cpu" else "float16"


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


def measure(options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The records so far, after each turn of an arrangement. Its first turn builds it and warms up."""
    began, late = time.perf_counter(), False
    source = Source(options.data, options.batch, pace=0.0)
    batches = [source(step) for step in range(options.batches)]
    found = ways(options.device == "cpu")
    wait = None if options.device == "cpu" else torch.cuda.current_stream()
    graphs: dict[str, PixelGraph] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for _ in range(options.turns):
        for name, way in found.items():
            late = late or time.perf_counter() - began > options.budget_s
            if late:
                continue
            feeds = [fed(way, batch) for batch in batches]
            if name not in graphs:
                graphs[name] = build(way, options)
                turn(graphs[name], feeds, wait)
            times[name].append(turn(graphs[name], feeds, wait))
            yield records(times, options)
    yield [*records(times, options), *(not_begun(name, options) for name, spent in times.items() if not spent)]


def records(times: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A record an arrangement that had a turn, from the (seconds, CPU seconds) of its turns."""
    products = options.batches * options.batch
    by_turn = {name: [products / clock for clock, _ in spent] for name, spent in times.items() if spent}
    return [
        {
            "what": f"arrangements/{name}", "value": statistics.median(rates), "unit": "products/s",
            "quantiles": {"min": min(rates), "max": max(rates)}, "repeats": len(rates), "warm_up": 1,
            "by_round": rates, **ratio_to(USUAL, rates, by_turn[USUAL]),
            "cpu_ms_a_product": 1e3 * statistics.median(cpu for _, cpu in times[name]) / products,
            **_about(options),
        }
        for name, rates in by_turn.items()
    ]  # fmt: skip


def not_begun(name: str, options: argparse.Namespace) -> dict[str, Any]:
    why = f"not begun within the budget of {options.budget_s:.0f} s"
    return {"what": f"arrangements/{name}", "value": None, "unit": "products/s", "can_not": why, **_about(options)}


def _about(options: argparse.Namespace) -> dict[str, Any]:
    crops = {group.name: [group.views, group.size] for group in VIEWS}
    about = {"shapes": {"batch": options.batch, "crops": crops}, "dtype": dtype_on(options.device)}
    return about | {"threads": options.threads, "batches_a_turn": options.batches}


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
    parser.add_argument("--budget-s", type=above_0, default=480.0, help="no turn begins after it (default %(default)s)")
    parser.add_argument("--device", default="cuda" if gpu else "cpu", help="(default %(default)s)")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if min(options.batches, options.turns) < 2:
        raise BadUsage("a turn needs two batches, a median two turns", change="--batches 2 --turns 2 or more")
    shared = {"data": folder_name(options.data), "device": options.device, **provenance()}
    made: list[dict[str, Any]] = []
    for made in measure(options):
        if options.out:
            write(options.out, (record | shared for record in made))
    for record in made:
        _tell(record)


def _tell(record: dict[str, Any]) -> None:
    name = record["what"].partition("/")[2]
    if record["value"] is None:
        print(f"{name:28} can not: {record['can_not']}")
        return
    low, high = record["ratios"]
    print(
        f"{name:28} {record['value']:8.1f} products/s  {told(record, 'the first')} ({low:.2f} to {high:.2f})  "
        f"{record['cpu_ms_a_product']:6.2f} CPU ms a product"
    )


if __name__ == "__main__":
    sys.exit(main())
