"""The chosen tasks' scores of every embedding, with intervals and reasons for what is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.bootstrap import Estimate
from skill_fast.evaluate.color import color_floor
from skill_fast.evaluate.evaluators import (
    ColorLabels,
    Value,
    Vectors,
    color_values,
    knn_values,
    orientation_values,
    probe_values,
    retrieval_values,
    variant_values,
    why_absent,
)
from skill_fast.evaluate.orientation import TurnedSample
from skill_fast.evaluate.products import ProductSet, product_means

NO_QUERY = {
    "retrieval/same_product": "no product has two photographs",
    "retrieval/other_color": "no variant group has products in two colours",
}


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


def score(
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
