"""One row of ``benchmarks.step`` in this process: SkiLL's step on a fixed batch, timed whole and by phase."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from skill_fast.config import Config
from skill_fast.data.views import global_crops
from skill_fast.engine.deepspeed_engine import build_engine, init_distributed
from skill_fast.engine.teacher import ShardedTeacher
from skill_fast.kernels import choose, distillation_loss
from skill_fast.methods.skill import Skill
from skill_fast.models.heads import DistillationHead, HeadConfig, MultiCrop
from skill_fast.models.speed import attention_backend, prepare
from skill_fast.models.vit import build_backbone
from skill_fast.presets import PRESETS

PEAKS_TFLOPS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "A100": 312.0, "B200": 2250.0}
"""Dense bf16, from NVIDIA's data sheets; what MFU is a share of."""
PHASES = ("forward teacher", "forward student", "loss", "backward", "optimizer", "teacher", "gather and center")


@dataclass(frozen=True)
class Row:
    """One setting; ``speed`` as ``SpeedConfig`` has it."""

    name: str
    preset: str
    batch: int
    stage: int
    precision: str
    speed: dict[str, Any] = field(default_factory=dict)


def one(row: Row, seconds: float) -> dict[str, Any]:
    """Measure a row in this process."""
    config = PRESETS[row.preset]
    config = replace(config, speed=replace(config.speed, **row.speed))
    choose(config.speed.kernels)
    _, _, device = init_distributed()
    method = Skill(config.skill, config.backbone, config.head, config.views, seed=0)
    method.to(device)
    engine = build_engine(method.student, _ds_config(row))
    teacher = ShardedTeacher(engine, method.teacher)
    prepare(method.student, method.teacher, config.speed, device)
    crops = _crops(config, row.batch, device, engine.dtype)
    step = _Step(engine, method, teacher, crops, config.optimizer.lr * row.batch / 256)
    losses = [float(step.whole()) for _ in range(12)]  # warm-up: compiles, allocates, and is the gate
    if not losses[-1] < losses[0]:
        return {"can_not": f"the gate: losses {losses[0]:.4f} ... {losses[-1]:.4f} do not fall on a fixed batch"}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = _queued(step, seconds, device)
    flops = products_flops(config)
    rate = row.batch / (statistics.median(times) / 1e3)
    on_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name() if on_gpu else ""
    peak = next((peak for name, peak in PEAKS_TFLOPS.items() if name in card), None)
    backbone = method.student.backbone
    return {
        "step_ms": statistics.median(times),
        "repeats": len(times),
        "products_per_s": rate,
        "gflop_per_product": flops / 1e9,
        "tflop_per_s": rate * flops / 1e12,
        "mfu": rate * flops / 1e12 / peak if peak else None,
        "peak_tflops": peak,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        "phases_ms": _phases(step, device),
        "attention": {g.name: attention_backend(backbone, device, engine.dtype, g.size) for g in method.views()},
        "first_loss": losses[0],
    }


class _Step:
    """The loop's step on one fixed batch."""

    def __init__(self, engine: Any, method: Skill, teacher: ShardedTeacher, crops: dict[str, Any], lr: float) -> None:
        self.engine, self.method, self.teacher, self.crops, self.lr = engine, method, teacher, crops, lr

    def whole(self) -> torch.Tensor:
        """As ``engine.loop.Run._one_step``; the loss."""
        self.engine.set_schedules(self.lr, 0.04)
        self.teacher.wait()
        loss, _ = self.method.loss(self.engine, self.crops, 0.04)
        self.method.reduce()
        self.engine.backward(loss)
        self.engine.step()
        finite = self.engine.finite
        self.teacher.update(0.996, finite)
        self.method.commit(finite)
        return loss.detach()

    def in_phases(self, mark: Any) -> None:
        """The same, ``mark()`` between the phases."""
        method, engine = self.method, self.engine
        engine.set_schedules(self.lr, 0.04)
        mark()
        both = global_crops(self.crops)
        with torch.no_grad():
            teacher_logits = method.teacher(both)
        mark()
        student_logits = engine(both, *([self.crops["local"]] if "local" in self.crops else []))
        mark()
        out = distillation_loss(student_logits, teacher_logits, method.center, method.config.student_temp, 0.04)
        method._collect(out.teacher_sum, teacher_logits.shape[0] * teacher_logits.shape[1])
        method.reduce()
        mark()
        engine.backward(out.loss)
        mark()
        engine.step()
        finite = engine.finite
        mark()
        self.teacher.update(0.996, finite)
        mark()
        self.teacher.wait()
        method.commit(finite)
        mark()


def _queued(step: _Step, seconds: float, device: torch.device) -> list[float]:
    """ms a step over blocks of 5 that nothing waits within; on a GPU the host runs ahead inside a block."""
    times, start = [], time.perf_counter()
    while len(times) < 4 or time.perf_counter() - start < seconds:
        began = time.perf_counter()
        for _ in range(5):
            step.whole()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - began) * 1e3 / 5)
    return times


def _phases(step: _Step, device: torch.device, repeats: int = 10) -> dict[str, float]:
    """Median ms of each phase; events on a GPU, the clock on a CPU."""
    found: list[list[float]] = []
    for _ in range(repeats):
        if device.type == "cuda":
            events: list[Any] = []

            def mark(events: list[Any] = events) -> None:
                events.append(torch.cuda.Event(enable_timing=True))
                events[-1].record()

            step.in_phases(mark)
            torch.cuda.synchronize()
            found.append([a.elapsed_time(b) for a, b in pairwise(events)])
        else:
            marks: list[float] = []
            step.in_phases(lambda marks=marks: marks.append(time.perf_counter()))  # type: ignore[misc]
            found.append([(b - a) * 1e3 for a, b in pairwise(marks)])
    return {name: statistics.median(times) for name, times in zip(PHASES, zip(*found))}


def products_flops(config: Config) -> float:
    """Floating-point operations of a training step a product: teacher forward, student forward and twice that back.

    Counted by torch on the meta device, matrix products and convolutions only; recomputation is not counted.
    """
    with torch.device("meta"):
        head = HeadConfig(config.head.prototypes, config.head.hidden, config.head.bottleneck)
        backbone = build_backbone(config.backbone)
        model = MultiCrop(backbone, DistillationHead(int(backbone.num_features), head))  # type: ignore[arg-type]
    counts = []
    for local in (False, True):
        crops = [torch.empty(2, 1, 3, config.backbone.image_size, config.backbone.image_size, device="meta")]
        if local and config.views.local_crops:
            side = config.views.local_size
            crops.append(torch.empty(config.views.local_crops, 1, 3, side, side, device="meta"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*crops)
        counts.append(counter.get_total_flops())
    return counts[0] + 3 * counts[1]


def _crops(config: Config, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    side, views = config.backbone.image_size, config.views
    shapes = {"global": (2, batch, 3, side, side)}
    if views.local_crops:
        shapes["local"] = (views.local_crops, batch, 3, views.local_size, views.local_size)
    return {name: torch.randn(shape, generator=generator).to(device, dtype) for name, shape in shapes.items()}


def _ds_config(row: Row) -> dict[str, Any]:
    config: dict[str, Any] = {"train_batch_size": row.batch, "gradient_clipping": 3.0}
    config["zero_optimization"] = {"stage": row.stage}
    if row.precision != "fp32":
        config[row.precision] = {"enabled": True}
    return config
