"""The definition of the center's update, in plain torch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def center_update(
    center: Float[Tensor, prototypes],
    teacher_sum: Float[Tensor, prototypes],
    rows: int | Float[Tensor, ""],
    momentum: float,
) -> Float[Tensor, prototypes]:
    """See ``skill_fast.kernels.centering.op.center_update``."""
    return center * momentum + (teacher_sum / rows) * (1 - momentum)
