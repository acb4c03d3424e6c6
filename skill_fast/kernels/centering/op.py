"""The center of the teacher's logits: the contract."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from skill_fast.kernels.centering import reference


def center_update(
    center: Float[Tensor, prototypes],
    teacher_sum: Float[Tensor, prototypes],
    rows: int | Float[Tensor, ""],
    momentum: float,
) -> Float[Tensor, prototypes]:
    """Return the center moved towards the mean of the teacher's rows.

    ``c <- m c + (1 - m) teacher_sum / rows``

    center, teacher_sum: fp32; the sum is over views, batch and, all-reduced by the caller, over ranks.
    rows: how many rows were summed, over all ranks. A new tensor comes back, so that a caller can drop it when the
    step turns out not to be finite.
    Source: DINO, equation 4; used by SkiLL section 3.3 against collapse.
    """
    return reference.center_update(center, teacher_sum, rows, momentum)
