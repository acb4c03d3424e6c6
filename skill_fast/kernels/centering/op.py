"""The center of the teacher's logits, a moving mean or Sinkhorn-Knopp's: the contract."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from skill_fast.kernels.backend import implementation


def center_update(
    center: Float[Tensor, " prototypes"],
    teacher_sum: Float[Tensor, " prototypes"],
    rows: int | Float[Tensor, ""],
    momentum: float,
) -> Float[Tensor, " prototypes"]:
    """Return the center moved towards the mean of the teacher's rows.

    ``c <- m c + (1 - m) teacher_sum / rows``

    center, teacher_sum: fp32; the sum is over views, batch and, all-reduced by the caller, over ranks.
    rows: how many rows were summed, over all ranks. A new tensor comes back, so that a caller can drop it when the
    step turns out not to be finite.
    Source: DINO, equation 4; used by SkiLL section 3.3 against collapse.
    """
    return implementation(__package__, center).center_update(center, teacher_sum, rows, momentum)


def sinkhorn(
    teacher_logits: Float[Tensor, "teacher_views batch prototypes"],
    temp: float | Float[Tensor, ""],
    iterations: int = 3,
    all_reduce: Callable[..., object] | None = None,
) -> Float[Tensor, " prototypes"]:
    """Return the center with which the teacher's softmax is Sinkhorn-Knopp's assignment of this step's rows.

    ::

        Q = exp(teacher_logits / temp), all rows of all views and ranks together
        iterations times:  Q[:, k] /= sum of column k over all rows;  Q[b] /= sum of row b
        Q[b] == softmax((teacher_logits[b] - center) / temp)

    The last step makes each row sum to 1, so what Sinkhorn-Knopp does to a row is a softmax of logits moved by one
    number a prototype: the distillation loss takes that as its center and needs no other form of target.
    all_reduce: as ``torch.distributed.all_reduce``, called ``(tensor, op=MAX)`` once and ``(tensor, op=SUM)`` at each
    iteration with [prototypes]; None: over torch.distributed's ranks where it is initialised, else nothing.
    Everything inside is fp32, over a copy of the logits. Raises ValueError for fewer than 1 iteration.
    Source: SwAV, section 3.1 and listing 1; DINOv2 uses 3 iterations in place of a moving mean.
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; allowed: 1 or more")
    if all_reduce is None:
        all_reduce = dist.all_reduce if dist.is_available() and dist.is_initialized() else _alone
    return implementation(__package__, teacher_logits).sinkhorn(teacher_logits, temp, iterations, all_reduce)


def _alone(tensor: Tensor, op: object) -> None:
    """One rank: its own sum is the sum."""
