"""The definition of the teacher's moving average, in plain torch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def ema_update(
    teacher: Float[Tensor, " elements"],
    student: Float[Tensor, " elements"],
    momentum: float | Float[Tensor, ""],
    out: Float[Tensor, " elements"] | None = None,
) -> Float[Tensor, " elements"]:
    """See ``skill_fast.kernels.ema.op.ema_update``."""
    # (1 - m)(s - t) rather than m t + (1 - m) s: one rounding less, so equal weights stay equal exactly.
    teacher.add_((student - teacher).mul_(1 - momentum))
    if out is not None:
        out.copy_(teacher)
    return teacher
