"""The teacher's moving average: the contract."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from skill_fast.kernels.backend import implementation


def ema_update(
    teacher: Float[Tensor, " elements"],
    student: Float[Tensor, " elements"],
    momentum: float | Float[Tensor, ""],
    out: Float[Tensor, " elements"] | None = None,
) -> Float[Tensor, " elements"]:
    """Move the teacher's average towards the student, in place.

    ``teacher <- m teacher + (1 - m) student``, element by element.

    teacher, student: flat fp32 of equal length, at any address but without gaps. A bf16 average would not move at all
    at m >= 0.99, hence the check.
    momentum: m in [0, 1], a number or a tensor of one element (which is not read on the host, and so not checked).
    out: optional copy of the result in fp16, bf16 or fp32, written in the same pass.
    Returns ``teacher``. Raises TypeError when teacher or student is not fp32, ValueError when a length differs or a
    number m lies outside of [0, 1].
    Source: SkiLL section 3.3 (the paper prints lambda = 1 - m); DINO, section 3.1.
    """
    if teacher.dtype != torch.float32 or student.dtype != torch.float32:
        raise TypeError(f"the average is kept in fp32; got teacher {teacher.dtype}, student {student.dtype}")
    if teacher.shape != student.shape or (out is not None and out.shape != teacher.shape):
        raise ValueError(f"lengths differ: teacher {tuple(teacher.shape)}, student {tuple(student.shape)}")
    if not isinstance(momentum, Tensor) and not 0 <= momentum <= 1:  # NaN too
        raise ValueError(f"momentum is {momentum}; allowed: 0 to 1, the share of the average that is kept")
    return implementation(__package__, teacher).ema_update(teacher, student, momentum, out)
