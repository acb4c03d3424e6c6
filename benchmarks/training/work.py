"""How much there is to compute: FLOPs and tokens of one product, and the rate that a device could do it at."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stopwatch import clocked
from skill_fast.config import Config
from skill_fast.data.views import ViewGroup
from skill_fast.models.heads import DistillationHead, MultiCrop
from skill_fast.models.vit import build_backbone, patch_size_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
DATA_SHEET_TFLOPS = {
    "B200": {"bf16": 2250.0, "fp16": 2250.0},
    "H200": {"bf16": 989.4, "fp16": 989.4, "fp32": 66.9},
    "H100 PCIe": {"bf16": 756.0, "fp16": 756.0, "fp32": 51.2},
    "H100 NVL": {"bf16": 835.0, "fp16": 835.0, "fp32": 60.0},
    "H100": {"bf16": 989.4, "fp16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp16": 312.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "fp16": 362.0, "fp32": 91.6},
    "L4": {"bf16": 121.0, "fp16": 121.0, "fp32": 30.3},
    "V100": {"fp16": 125.0, "fp32": 15.7},
    "T4": {"fp16": 65.0, "fp32": 8.1},
}
"""Dense peak by NVIDIA's data sheets, without sparsity; fp32 without TF32, as torch computes by default. A name that
stands in the device's name counts, the first one that does."""


def flops_a_product(config: Config, views: Sequence[ViewGroup]) -> dict[str, float]:
    """FLOPs (a multiply-add is two) of one product by part: teacher, student, backward; counted by torch, not timed.

    The model without levers, on the meta device: what gradient checkpointing computes twice is not counted twice, what
    stochastic depth leaves out is counted. Norms, softmax, loss and optimizer are not counted.
    """
    with torch.device("meta"):
        backbone = build_backbone(config.backbone, drop_path=0.0)
        model = MultiCrop(backbone, DistillationHead(int(backbone.num_features), config.head))  # type: ignore[arg-type]
        crops = [torch.empty(group.views, 1, 3, group.size, group.size) for group in views]
    teacher_crops = [crop for group, crop in zip(views, crops) if group.name.startswith("global")]
    with FlopCounterMode(display=False) as teacher, torch.no_grad():
        model(*teacher_crops)
    with FlopCounterMode(display=False) as student:
        logits = model(*crops)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    counted = {"teacher": teacher, "student": student, "backward": backward}
    return {name: float(counter.get_total_flops()) for name, counter in counted.items()}


def tokens_a_product(config: Config, views: Sequence[ViewGroup]) -> dict[str, int]:
    """Tokens, class token included, that student and teacher see of one product."""
    with torch.device("meta"):
        backbone = build_backbone(config.backbone)
    patch, prefix = patch_size_of(backbone), int(backbone.num_prefix_tokens)  # type: ignore[arg-type]
    tokens = {group.name: group.views * ((group.size // patch) ** 2 + prefix) for group in views}
    return {
        "student": sum(tokens.values()),
        "teacher": sum(count for name, count in tokens.items() if name.startswith("global")),
    }


def matmul_tflops(device: torch.device, precision: str) -> float:
    """What one large matrix product of random numbers reaches here and now: TFLOP/s, the median of several."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    timing = clocked(lambda: left @ right, device, repeats=9, warm_up=3)
    return 2 * side**3 / timing.median_ms / 1e9


def peak_tflops(device: torch.device, precision: str) -> tuple[float, str]:
    """(TFLOP/s, where the number is from): the data sheet's where the device is known, else ``matmul_tflops``."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, peaks in DATA_SHEET_TFLOPS.items():
            if re.search(rf"\b{known}\b", name) and precision in peaks:
                return peaks[precision], f"data sheet of {known}, dense {precision}"
    return matmul_tflops(device, precision), "a matrix product measured in this process"
