"""The pictures of the report: each one a function of the records, or None where the records say nothing of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from benchmarks.archive import Record
from benchmarks.charts import kernels, scaling, step, throughput, waiting

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
        "Crops made and thrown away; whiskers reach from the slowest to the fastest repeat. Decoding without crops has "
        "a scale of its own.",
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
        "Phases as measured in a few steps with marks in them, on a GPU by the device's clock; data is taking a batch "
        "from the loader, rest what no phase claims. The mark is the median of the steps that were timed without.",
        "benchmarks.train",
    ),
    Chart(
        "wait",
        "Waiting for data, and the loader's settings",
        waiting.data_wait,
        "The share of training that waited for batches from disk, with the settings its loader had; where they were "
        "measured, the loader alone at other settings, and ways to plan and read batches beside a training thread.",
        "benchmarks.train, benchmarks.loader --sweep and benchmarks.feeding",
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
        "under a plain copy of as many bytes where the run has one.",
        "benchmarks.kernels",
    ),
    Chart(
        "history",
        "History over commits",
        throughput.history,
        "Rows with more than one record on the same machine, relative to the first. A plus marks a tree with "
        "uncommitted changes.",
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
