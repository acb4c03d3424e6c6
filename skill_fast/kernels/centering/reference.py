"""The definitions of the center's update and of Sinkhorn-Knopp, in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def center_update(
    center: Float[Tensor, " prototypes"],
    teacher_sum: Float[Tensor, " prototypes"],
    rows: int | Float[Tensor, ""],
    momentum: float,
) -> Float[Tensor, " prototypes"]:
    """See ``skill_fast.kernels.centering.op.center_update``."""
    return center * momentum + (teacher_sum / rows) * (1 - momentum)


@torch.no_grad()
def sinkhorn(
    teacher_logits: Float[Tensor, "teacher_views batch prototypes"],
    temp: float | Float[Tensor, ""],
    iterations: int,
    all_reduce: Callable[..., object],
) -> Float[Tensor, " prototypes"]:
    """See ``skill_fast.kernels.centering.op.sinkhorn``."""
    scaled = teacher_logits.flatten(0, 1).float() / temp
    peak = scaled.amax(0)
    all_reduce(peak, op=dist.ReduceOp.MAX)
    # exp(logits / temp) up to a factor for each prototype, which ``of_prototype`` takes in: no overflow at any logit.
    share = (scaled - peak).exp()
    of_row = torch.ones_like(share[:, 0])
    for _ in range(iterations):
        sums = of_row @ share
        all_reduce(sums, op=dist.ReduceOp.SUM)
        of_prototype = 1 / sums
        of_row = 1 / (share @ of_prototype)
    return (peak - of_prototype.log()) * temp
