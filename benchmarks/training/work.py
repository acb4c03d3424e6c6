"""How much there is to compute: FLOPs and tokens of one product, and the rate that a device could do it at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stopwatch import clocked
from skill_fast.config import Config
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.views import ViewGroup
from skill_fast.models.heads import DistillationHead, MultiCrop
from skill_fast.models.vit import build_backbone, patch_size_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_HOPPER_SXM = {"bf16": 989.4, "fp16": 989.4, "fp32": 66.9}
_HOPPER_NVL = {"bf16": 835.5, "fp16": 835.5, "fp32": 60.0}
_A100 = {"bf16": 312.0, "fp16": 312.0, "fp32": 19.5}
_V100_SXM2, _V100_PCIE = {"fp16": 125.0, "fp32": 15.7}, {"fp16": 112.0, "fp32": 14.0}
DATA_SHEET_TFLOPS: dict[str, dict[str, float]] = {
    "NVIDIA B200": {"bf16": 2250.0, "fp16": 2250.0},
    "NVIDIA H200": _HOPPER_SXM,
    "NVIDIA H200 NVL": _HOPPER_NVL,
    "NVIDIA H100 80GB HBM3": _HOPPER_SXM,
    "NVIDIA H100 NVL": _HOPPER_NVL,
    "NVIDIA H100 PCIe": {"bf16": 756.0, "fp16": 756.0, "fp32": 51.2},
    **dict.fromkeys(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"), _A100),
    **dict.fromkeys(("NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), _A100),
    "NVIDIA L40S": {"bf16": 362.0, "fp16": 362.0, "fp32": 91.6},
    "NVIDIA L4": {"bf16": 121.0, "fp16": 121.0, "fp32": 30.3},
    **dict.fromkeys(("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"), _V100_SXM2),
    **dict.fromkeys(("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"), _V100_PCIE),
    "Tesla T4": {"fp16": 65.0, "fp32": 8.1},
}
"""Dense peak by the name that the driver gives a card; fp32 without TF32, as torch computes by default.

The whole name: H200 NVL, H100 PCIe and a MIG slice begin like a faster card. NVIDIA prints tensor cores' rates with
sparsity, twice the dense ones: 1,979 for H200 and H100 SXM, 1,671 for both NVL, fp32 67 and 60
(nvidia.com/en-us/data-center/h200 and /h100). 989.4, 66.9, 756 and 51.2 are dense figures of NVIDIA's H100 white paper.
"""


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


def peak_tflops(device: torch.device, precision: str) -> tuple[float | None, str]:
    """(TFLOP/s by NVIDIA's data sheet, which one); (None, why) for a device or a precision that the table lacks."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    peak = DATA_SHEET_TFLOPS.get(name, {}).get(precision)
    if peak is None:
        return (
            None,
            f"no data sheet's figure for {name} in {precision}: no MFU, of_matmul is to a product measured here",
        )
    return peak, f"data sheet of {name}, dense {precision}"


def of_run(config: Config, views: Sequence[ViewGroup], device: torch.device, precision: str) -> dict[str, Any]:
    """What a record needs so that a rate of products tells crops, tokens and FLOPs; measures a matrix product."""
    peak, source = peak_tflops(device, precision)
    return {
        "flops_a_product": flops_a_product(config, views),
        "tokens_a_product": tokens_a_product(config, views),
        "crops": {group.name: [group.views, group.size] for group in views},
        "peak_tflops": peak,
        "peak_is": source,
        "matmul_tflops": matmul_tflops(device, precision),
    }


def megapixels_a_photograph(index: CatalogueIndex) -> float:
    return float(np.mean(np.asarray(index.height, np.int64) * index.width)) / 1e6


def utilisation(tflops: float, about: Mapping[str, Any]) -> dict[str, float | None]:
    """Of the data sheet's peak (MFU; None where there is none), and of a matrix product measured in the process."""
    peak = about["peak_tflops"]
    return {"mfu": None if peak is None else tflops / peak, "of_matmul": tflops / about["matmul_tflops"]}


def told_utilisation(record: Mapping[str, Any]) -> str:
    """For people: MFU, or where the peak is not known the share of a measured matrix product."""
    mfu, of_matmul = record["mfu"], record["of_matmul"]
    return f"of matmul {of_matmul:5.1%} (no MFU: peak unknown)" if mfu is None else f"MFU {mfu:5.1%}"
