"""The model of scaling, drawn to 512 GPUs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.archive import Record, newest_run
from benchmarks.scaling_model import FABRICS, GPUS, Job, at_global_batch, efficiency, step_ms

VIT_S, VIT_B = 45_000_000, 110_000_000
"""Parameters of backbone and head (2048-2048-256, K = 65,536), as benchmarks.kernels has them."""
GLOBAL_BATCH = 4096
COLORS = ("#0b6e4f", "#c9a227", "#c44536")
DASHES = {0: "-", 2: "--"}


def job_of(records: Sequence[Record]) -> Job:
    """ViT-S/16 as the newest GPU run measured it; without one at the project's goal, 3,000 products/s, as assumed."""
    rows = newest_run(r for r in records if r.what == "train/compute only" and r.on_gpu and r.value)
    rows = [r for r in rows if "batch" in r.settings and r.fields.get("step_ms")]
    if not rows:
        return Job("ViT-S/16, 3,000 products/s assumed", 256, 256 / 3000 * 1e3, VIT_S)
    best = max(rows, key=lambda r: r.value or 0.0)
    batch, measured_ms = best.settings["batch"], best.fields["step_ms"]["p50"]
    parameters = best.fields.get("parameters", VIT_S)
    return Job(f"{best.machine}, {best.commit}", batch, measured_ms, parameters, assumed=False)


def curves(records: Sequence[Record]) -> Figure:
    """Left: efficiency at the same batch a GPU. Right: how many times as fast at one global batch."""
    job = job_of(records)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    weak, strong = figure.subplots(1, 2)
    for fabric, color in zip(FABRICS, COLORS):
        for stage, dash in DASHES.items():
            look = {"color": color, "linestyle": dash, "label": f"{fabric.name}, ZeRO {stage}{' and 1' * (stage == 2)}"}
            weak.plot(GPUS, [100 * efficiency(job, stage, n, fabric) for n in GPUS], **look)
            alone_ms = step_ms(at_global_batch(job, GLOBAL_BATCH, 1), stage, 1, fabric)
            parts = {n: at_global_batch(job, GLOBAL_BATCH, n) for n in GPUS}
            strong.plot(GPUS, [alone_ms / step_ms(part, stage, n, fabric) for n, part in parts.items()], **look)
    strong.plot(GPUS, GPUS, color="#999", linewidth=0.8, label="as many times as GPUs")
    weak.set(ylim=(0, 105), ylabel="% of one GPU's products/s, each", title=f"{job.batch} products a GPU")
    strong.set(yscale="log", ylabel="times as fast as one GPU", title=f"{GLOBAL_BATCH:,} products a step")
    for axes in (weak, strong):
        axes.set_xscale("log", base=2)
        axes.set_xticks(GPUS, [str(n) for n in GPUS])
        axes.set_xlabel("GPUs, 8 a node")
    handles, labels = strong.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=4)
    figure.suptitle(f"Model, not a measurement: {job.name}", fontsize=10)
    return figure
