"""All scores of one run beside its controls, as a dictionary, a table and the command ``skill-eval``.

Five embeddings go through the same evaluators: the trained encoder, the same encoder untrained, raw pixels, grey pixels
and a colour histogram.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from shards.places import Place
from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.data.shard_cache import add_cache_options, cache_config
from skill_fast.errors import BadData, BadUsage, exit_with
from skill_fast.evaluate.baselines import BASELINES
from skill_fast.evaluate.bootstrap import Estimate
from skill_fast.evaluate.color import color_floor
from skill_fast.evaluate.color_names import basic_color_shares
from skill_fast.evaluate.compare import main_compare
from skill_fast.evaluate.embed import BATCH_SIZE, Embedder, choose_device, embed_all
from skill_fast.evaluate.evaluators import (
    VARIANT_VALIDATION,
    ColorLabels,
    Value,
    Vectors,
    catalogue_colors,
    color_labels,
    color_values,
    knn_values,
    orientation_values,
    probe_values,
    retrieval_values,
    variant_values,
    why_absent,
)
from skill_fast.evaluate.knn import NEIGHBORS, TEMPERATURE
from skill_fast.evaluate.orientation import TurnedSample, embed_turned
from skill_fast.evaluate.products import SPLITS, ProductSet, product_means, select_products
from skill_fast.evaluate.progress import progress_bar
from skill_fast.evaluate.scoreboard import print_table
from skill_fast.evaluate.tables import main_tables
from skill_fast.models.encoder import Encoder, load_encoder
from skill_fast.models.pooling import POOLINGS

TASKS = ("knn", "probe", "color", "variants", "retrieval", "orientation")
DEFAULT_TASKS = ("knn", "probe", "color", "variants", "retrieval")
"""Without ``orientation``, which embeds a sample four more times."""
QUICK_TASKS = ("knn", "color", "retrieval")
"""What training measures at its end: no probe is trained."""
DOMINANT = "dominant colour"
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"tables": main_tables, "compare": main_compare}
NO_QUERY = {
    "retrieval/same_product": "no product has two photographs",
    "retrieval/other_color": "no variant group has products in two colours",
}


def evaluate(
    run_or_encoders: str | os.PathLike[str] | Mapping[str, Encoder],
    data: str | Place | CatalogueIndex,
    tasks: Sequence[str] = DEFAULT_TASKS,
    *,
    split: str | None = None,
    at_most: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str | None = None,
    threads: int | None = None,
    done: Callable[[int, int], object] = lambda photographs, total: None,
) -> dict[str, Any]:
    """Score encoders and baselines side by side; the result is plain data, for JSON and ``print_table``.

    run_or_encoders: a run folder (its encoder, trained and untrained) or row name -> encoder, all of one crop.
    ``split`` None: the test split where there is one, else every product; ``at_most`` products of it, and of those that
    vote. ``done(photographs, total)`` per batch.
    Result: ``rows`` (row name -> score name -> value), ``absent`` (score name -> reason), and what was measured how.
    Raises BadUsage for unknown tasks or splits, BadData for runs and data sets that are none.
    """
    check_tasks(tasks)
    encoders = run_or_encoders if isinstance(run_or_encoders, Mapping) else load_rows(run_or_encoders)
    index = data if isinstance(data, CatalogueIndex) else open_index(data)
    products = select_products(index, split, at_most)
    device = choose_device(str(device) if device is not None else None)
    started = time.perf_counter()
    found = _embed(index, products, encoders, batch_size, device, threads, done)
    sample = None
    if "orientation" in tasks:
        first = next(iter(encoders.values()))
        crop = {"resize": first.resize, "crop": first.image_size}
        how: dict[str, Any] = crop | {"batch_size": batch_size, "device": device, "threads": threads}
        sample = embed_turned(index, {**encoders, **BASELINES}, products, **how)
    embedded = time.perf_counter()
    labels = color_labels(products, found.pop(DOMINANT, None))
    scored = _score(products, found, labels, tasks, sample)
    first = next(iter(encoders.values()))
    return {
        "format": "skill-evaluation",
        "version": 1,
        "run": "" if isinstance(run_or_encoders, Mapping) else str(run_or_encoders),
        "step": first.about.get("step"),
        "data": str(index.folder),
        "dataset": index.fingerprint,
        "split": products.split,
        "protocol": products.protocol,
        "products": len(products.queries),
        "photographs": int(np.isin(products.product_of_image, products.queries).sum()),
        "resize": first.resize,
        "crop": first.image_size,
        "pooling": first.pooling,
        "knn": {"k": NEIGHBORS, "temperature": TEMPERATURE},
        "color_source": labels.source,
        "variants": {"validation": VARIANT_VALIDATION},
        "tasks": list(tasks),
        "rows": scored.rows,
        "absent": scored.absent,
        "approximations": scored.approximations,
        "replicates": scored.replicates,
        "seconds": {"embedding": embedded - started, "scores": time.perf_counter() - embedded},
    }


def measure(run: Path, index: CatalogueIndex) -> None:
    """Score a run's encoder beside its controls: RUN/evaluation.json and a table on the terminal."""
    result = evaluate(run, index, QUICK_TASKS)
    write_json(run / "evaluation.json", result)
    print_table(result)


def load_rows(run: str | os.PathLike[str], pooling: str = "class") -> dict[str, Encoder]:
    """A run's encoder as it is and as it was before the first step."""
    return {
        "trained": load_encoder(run, pooling=pooling),
        "untrained": load_encoder(run, untrained=True, pooling=pooling),
    }


def tasks_of(text: str, option: str = "--tasks") -> list[str]:
    """ "knn,color" -> its tasks; raises BadUsage, naming ``option``, where one is unknown or none is named."""
    tasks = [task.strip() for task in text.split(",") if task.strip()]
    check_tasks(tasks, option)
    return tasks


def check_tasks(tasks: Sequence[str], option: str = "--tasks") -> None:
    """Raise BadUsage, naming ``option``, unless each of them is a task and there is one."""
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        came = f"task {', '.join(repr(task) for task in unknown)} is not known" if unknown else "no task was named"
        raise BadUsage(came, allowed=", ".join(TASKS), change=f"{option} {','.join(TASKS)}")


def _embed(
    index: CatalogueIndex,
    products: ProductSet,
    encoders: Mapping[str, Encoder],
    batch_size: int,
    device: torch.device,
    threads: int | None,
    done: Callable[[int, int], object],
) -> dict[str, np.ndarray]:
    """Every embedder over every photograph, each photograph decoded once."""
    crops = {(encoder.resize, encoder.image_size) for encoder in encoders.values()}
    if len(crops) != 1:
        raise BadUsage(f"encoders with {len(crops)} different crops", allowed="encoders of one image_size and resize")
    resize, crop = crops.pop()
    embedders: dict[str, Embedder] = {name: encoder.to(device).eval() for name, encoder in encoders.items()}
    embedders |= BASELINES
    if (catalogue_colors(products) == "").any():
        embedders[DOMINANT] = basic_color_shares
    total, seen = len(products.images), 0

    def count(photographs: int) -> None:
        nonlocal seen
        seen += photographs
        done(seen, total)

    return embed_all(
        index,
        embedders,
        products.images,
        resize=resize,
        crop=crop,
        batch_size=batch_size,
        device=device,
        threads=threads,
        done=count,
    )


@dataclass(frozen=True)
class Scored:
    """rows: row -> score -> value, with score_low and score_high where there is an interval. absent: score -> reason.

    approximations: row -> score -> how, empty where nothing was. replicates: score -> bootstrap replicates of the first
    row, from which ``skill-eval compare`` draws the interval of a difference.
    """

    rows: dict[str, dict[str, float]]
    absent: dict[str, str]
    approximations: dict[str, dict[str, str]]
    replicates: dict[str, list[float]]


def _score(
    products: ProductSet,
    found: Mapping[str, np.ndarray],
    labels: ColorLabels,
    tasks: Sequence[str],
    sample: TurnedSample | None,
) -> Scored:
    of_image = products.product_of_image
    turned = sample.vectors if sample else {}
    vectors = {
        name: Vectors(images, product_means(images, of_image), turned=turned.get(name, {}))
        for name, images in found.items()
    }
    absent = {name: why for name, why in why_absent(products, labels).items() if name.split("/")[0] in tasks}
    evaluators: dict[str, Callable[[Vectors], Iterator[Value]]] = {
        "knn": lambda seen: knn_values(products, seen),
        "probe": lambda seen: probe_values(products, seen),
        "retrieval": lambda seen: retrieval_values(products, seen),
    }
    if "variants" not in absent:
        evaluators["variants"] = lambda seen: variant_values(products, seen)
    if sample is not None and "orientation" not in absent:
        evaluators["orientation"] = lambda seen: orientation_values(sample, seen)
    if "color" in tasks and "color" not in absent:
        floor = color_floor(vectors["colour histogram"].products[products.queries], labels.names)
        evaluators["color"] = lambda seen: color_values(products, seen, labels, floor)
    chosen = [evaluators[task] for task in tasks if task in evaluators]
    values = {name: dict(value for run in chosen for value in run(seen)) for name, seen in vectors.items()}
    if "retrieval" in tasks:
        measured = values["colour histogram"]
        absent |= {name: why for name, why in NO_QUERY.items() if f"{name}/map" not in measured}
    return Scored(
        {name: dict(_with_intervals(mine)) for name, mine in values.items()},
        absent,
        {name: seen.notes for name, seen in vectors.items() if seen.notes},
        _replicates(next(iter(values.values()))),
    )


def _with_intervals(values: Mapping[str, float]) -> Iterator[Value]:
    for name, value in values.items():
        yield name, float(value)
        if isinstance(value, Estimate):
            yield f"{name}_low", value.low
            yield f"{name}_high", value.high


def _replicates(values: Mapping[str, float]) -> dict[str, list[float]]:
    """Six decimals: far below the width of any interval, and a third of the file."""
    estimates = ((name, value) for name, value in values.items() if isinstance(value, Estimate))
    return {name: np.round(value.replicates, 6).tolist() for name, value in estimates}


def recorded_data(run: Path) -> str:
    """The data folder that the run was trained on, from its config.yaml; raises BadUsage where none is recorded."""
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadData(f"'{path}' is not readable YAML: {error}", change="name the data with --data DIR") from error
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, str) or not data:
        raise BadUsage(f"'{path}' does not say which data the run was trained on", change="name it: --data DIR")
    return data


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result under a temporary name, then put it in place; the long lists of replicates without line breaks."""
    parts = ((name, json.dumps(value, indent=None if name == "replicates" else 2)) for name, value in result.items())
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {text}" for n, text in parts) + "\n}\n", "utf-8")
    os.replace(temporary, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-eval RUN --data DIR``, ``tables RUN...`` or ``compare A B``; returns the exit code.

    A run folder named as a command is given as ./tables or ./compare.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS.get(words[0]) if words else None
    return exit_with(lambda: command(words[1:]) if command else _run(words))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-eval", description="Score a run beside its controls."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder with model.json and teacher.safetensors")
    help_data = "folder of shards, or s3:// or gs:// address (default: the one the run was trained on)"
    parser.add_argument("--data", metavar="DIR", help=help_data)
    parser.add_argument("--tasks", default=",".join(DEFAULT_TASKS), help="comma-separated: " + ", ".join(TASKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too")
    parser.add_argument("--split", help=", ".join(SPLITS) + " (default: test where there is one, else all)")
    parser.add_argument("--pooling", default="class", help=", ".join(POOLINGS) + " (default: class)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU where there is one)")
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise BadUsage(f"--batch-size {options.batch_size}", allowed="1 or more", change="--batch-size")
    if options.json and not options.json.parent.is_dir():
        raise BadUsage(f"the folder '{options.json.parent}' does not exist", change=f"mkdir -p {options.json.parent}")
    if options.json and options.json.is_dir():
        raise BadUsage(f"--json {options.json} is a folder", allowed="a file's name", change="--json FILE.json")
    tasks = tasks_of(options.tasks)
    encoders = load_rows(options.run, options.pooling)
    index = open_index(options.data or recorded_data(options.run), cache_config(options))
    with progress_bar() as progress:
        line = progress.add_task("embedding", total=None)
        result = evaluate(
            encoders,
            index,
            tasks,
            split=options.split,
            batch_size=options.batch_size,
            device=options.device,
            done=lambda photographs, total: progress.update(line, completed=photographs, total=total),
        )
    result["run"] = str(options.run)
    if options.json:
        write_json(options.json, result)
    print_table(result)


if __name__ == "__main__":
    sys.exit(main())
