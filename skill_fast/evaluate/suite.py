"""All scores of one run beside its controls, as a dictionary, a table and the command ``skill-eval``.

Five embeddings go through the same evaluators: the trained encoder, the same encoder untrained, raw pixels, grey pixels
and a colour histogram.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shards.places import Place
from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.errors import BadUsage
from skill_fast.evaluate.baselines import BASELINES
from skill_fast.evaluate.color_names import basic_color_shares
from skill_fast.evaluate.compare import main_compare
from skill_fast.evaluate.devices import choose_device
from skill_fast.evaluate.embed import BATCH_SIZE, Embedder, embed_all
from skill_fast.evaluate.evaluators import (
    VARIANT_VALIDATION,
    catalogue_colors,
    color_labels,
)
from skill_fast.evaluate.knn import NEIGHBORS, TEMPERATURE
from skill_fast.evaluate.orientation import embed_turned
from skill_fast.evaluate.products import ProductSet, select_products
from skill_fast.evaluate.saved import SavedEmbeddings
from skill_fast.evaluate.scoreboard import print_table
from skill_fast.evaluate.scored import score
from skill_fast.evaluate.tables import main_tables
from skill_fast.models.encoder import Encoder, load_encoder

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


@dataclass(frozen=True)
class About:
    """What is known of the embedding that is scored."""

    step: Any
    resize: int
    crop: int
    pooling: str | None

    @classmethod
    def of(cls, saved: SavedEmbeddings | None, encoders: Mapping[str, Encoder]) -> About:
        """Of saved embeddings or of the first encoder; raises BadUsage for encoders of different crops."""
        if saved:
            step = saved.metadata.get("step", "")
            return cls(int(step) if step.isdigit() else None, saved.resize, saved.crop, saved.metadata.get("pooling"))
        crops = {(encoder.resize, encoder.image_size) for encoder in encoders.values()}
        if len(crops) != 1:
            raise BadUsage(
                f"encoders with {len(crops)} different crops", allowed="encoders of one image_size and resize"
            )
        first = next(iter(encoders.values()))
        return cls(first.about.get("step"), first.resize, first.image_size, first.pooling)


def _encoders(run_or_encoders: str | os.PathLike[str] | Mapping[str, Encoder]) -> Mapping[str, Encoder]:
    return run_or_encoders if isinstance(run_or_encoders, Mapping) else load_rows(run_or_encoders)


def evaluate(
    run_or_encoders: str | os.PathLike[str] | Mapping[str, Encoder] | SavedEmbeddings,
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

    run_or_encoders: a run folder (its encoder, trained and untrained), row name -> encoder, all of one crop, or saved
    embeddings (row "trained"; there is no untrained one, and ``orientation`` is absent).
    ``split`` None: the test split where there is one, else every product; ``at_most`` products of it, and of those that
    vote. ``done(photographs, total)`` per batch.
    Result: ``rows`` (row name -> score name -> value), ``absent`` (score name -> reason), and what was measured how.
    Raises BadUsage for unknown tasks or splits, BadData for runs and data sets that are none.
    """
    check_tasks(tasks)
    saved = run_or_encoders if isinstance(run_or_encoders, SavedEmbeddings) else None
    encoders = {} if saved else _encoders(run_or_encoders)  # type: ignore[arg-type]
    about = About.of(saved, encoders)
    index = data if isinstance(data, CatalogueIndex) else open_index(data)
    products = select_products(index, split, at_most)
    device = choose_device(str(device) if device is not None else None)
    started = time.perf_counter()
    crop = {"resize": about.resize, "crop": about.crop}
    how: dict[str, Any] = crop | {"batch_size": batch_size, "device": device, "threads": threads}
    found = _embed(index, products, encoders, done, **how)
    if saved:
        found = {"trained": saved.of(index, products.images)} | found
    turns = "orientation" in tasks and not saved
    sample = embed_turned(index, {**encoders, **BASELINES}, products, **how) if turns else None
    embedded = time.perf_counter()
    labels = color_labels(products, found.pop(DOMINANT, None))
    scored = score(products, found, labels, tasks, sample)
    if "orientation" in tasks and saved:
        scored.absent["orientation"] = "saved embeddings have no turned photographs"
    return {
        "format": "skill-evaluation",
        "version": 1,
        "run": str(saved.path) if saved else "" if isinstance(run_or_encoders, Mapping) else str(run_or_encoders),
        "step": about.step,
        "data": str(index.folder),
        "dataset": index.fingerprint,
        "split": products.split,
        "protocol": products.protocol,
        "products": len(products.queries),
        "photographs": int(np.isin(products.product_of_image, products.queries).sum()),
        **crop,
        "pooling": about.pooling,
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
    done: Callable[[int, int], object],
    **how: Any,
) -> dict[str, np.ndarray]:
    """Every embedder over every photograph, each photograph decoded once."""
    embedders: dict[str, Embedder] = {name: encoder.to(how["device"]).eval() for name, encoder in encoders.items()}
    embedders |= BASELINES
    if (catalogue_colors(products) == "").any():
        embedders[DOMINANT] = basic_color_shares
    total, seen = len(products.images), 0

    def count(photographs: int) -> None:
        nonlocal seen
        seen += photographs
        done(seen, total)

    return embed_all(index, embedders, products.images, done=count, **how)


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result under a temporary name, then put it in place; the long lists of replicates without line breaks."""
    parts = ((name, json.dumps(value, indent=None if name == "replicates" else 2)) for name, value in result.items())
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {text}" for n, text in parts) + "\n}\n", "utf-8")
    os.replace(temporary, path)
