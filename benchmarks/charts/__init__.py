"""The pictures of the report: each one a function of the records, or None where the records say nothing of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from benchmarks.archive import Record
from benchmarks.charts import kernels, scaling, step, throughput

STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.hashsalt": "skill_fast",  # the same records give the same bytes
}


@dataclass(frozen=True)
class Chart:
    """One picture: ``draw`` takes all records and returns None where none of them belongs here."""

    name: str
    title: str
    draw: Callable[[Sequence[Record]], Figure | None]
    says: str
    made_by: str
    """The command whose records it needs."""


CHARTS = (
    Chart(
        "peers",
        "Training throughput beside other recipes",
        throughput.peers,
        "One run on one machine; the same model, crops, batch and photographs. Ratios are to the original DINO recipe.",
        "benchmarks.train and benchmarks.peers",
    ),
    Chart(
        "loaders",
        "Loaders alone",
        throughput.loaders,
        "Crops made and thrown away; whiskers reach from the slowest to the fastest repeat.",
        "benchmarks.loader",
    ),
    Chart(
        "batch",
        "Throughput over batch size",
        throughput.batch_sizes,
        "From disk, with synthetic tensors (compute only) and with cached batches (headroom).",
        "benchmarks.train --sweep",
    ),
    Chart(
        "step",
        "Where a step's time goes",
        step.breakdown,
        "On a GPU by the device's clock; what no phase claims is grey.",
        "benchmarks.train",
    ),
    Chart(
        "wait",
        "Data wait over the loader's settings",
        step.data_wait,
        "Left: the share of the step that waited for data. Right: the loader alone at the same settings.",
        "benchmarks.train and benchmarks.loader --sweep",
    ),
    Chart("gpu", "GPU use over time", step.gpu_use, "As the driver averages it.", "benchmarks.train on a GPU"),
    Chart(
        "levers",
        "What each lever brings",
        step.levers,
        "One setting changed, all else equal, in one run.",
        "benchmarks.train --sweep, benchmarks.step",
    ),
    Chart(
        "roofline",
        "Roofline of the kernels",
        kernels.roofline,
        "They move far more bytes than they compute, so the roof is memory: bytes that must be moved over the time, "
        "beside a plain copy in the same run.",
        "benchmarks.kernels on a GPU",
    ),
    Chart(
        "history",
        "History over commits",
        throughput.history,
        "Each row relative to its first record on the same machine. A plus marks a tree with uncommitted changes.",
        "any benchmark, twice",
    ),
    Chart(
        "scaling",
        "Scaling: a model, not a measurement",
        scaling.curves,
        "From one GPU's step, the bytes of each collective and link speeds; docs/scaling.md has the assumptions.",
        "benchmarks.scaling",
    ),
)


def drawn(chart: Chart, records: Sequence[Record], suffix: str = "svg") -> bytes | None:
    """The picture as a file's bytes, "svg" or "png"; None where the records hold nothing for it."""
    with matplotlib.rc_context(STYLE):
        figure = chart.draw(records)
        if figure is None:
            return None
        out = io.BytesIO()
        about = {"Date": None} if suffix == "svg" else {}
        figure.savefig(out, format=suffix, bbox_inches="tight", metadata=about, dpi=110)
        return out.getvalue()
