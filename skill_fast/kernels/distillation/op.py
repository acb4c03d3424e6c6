"""Centering, sharpening, all pairs of cross-entropies: the contract of the distillation loss."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from skill_fast.kernels.backend import implementation


class DistillationOutput(NamedTuple):
    """What one pass over the logits yields; all fp32, on the device of the logits."""

    loss: Float[Tensor, ""]
    teacher_sum: Float[Tensor, " prototypes"]
    """Sum of the teacher's rows over views and batch, before centering: what the center is updated from."""
    teacher_entropy: Float[Tensor, ""]
    """Mean entropy of q in nats; ln(prototypes) is a uniform teacher."""
    kl: Float[Tensor, ""]
    """Mean KL(q || p) over the pairs: loss minus the teacher's share of it."""


def distillation_loss(
    student_logits: Float[Tensor, "student_views batch prototypes"],
    teacher_logits: Float[Tensor, "teacher_views batch prototypes"],
    center: Float[Tensor, " prototypes"],
    student_temp: float | Float[Tensor, ""],
    teacher_temp: float | Float[Tensor, ""],
    pairs: str = "dino",
) -> DistillationOutput:
    """Mean cross-entropy between the teacher's and the student's distributions over prototypes.

    ::

        q[t, b] = softmax((teacher_logits[t, b] - center) / teacher_temp)         no gradient
        p[s, b] = softmax(student_logits[s, b] / student_temp)
        loss    = mean over pairs (t, s) and b of  -sum_k q[t, b, k] log p[s, b, k]

    Logits: fp32, fp16 or bf16, the global crops first; center: fp32. Everything inside is fp32.
    pairs: ``dino`` takes every teacher view against every student view but the same one, 2 (c + 2) - 2 of them;
    ``cross_resolution`` only global against local, 2 c (SkiLL, equation 5).
    Collapse to a uniform output reads loss = ln(prototypes).
    Raises ValueError for unknown pairs, logits whose batch or prototypes differ or are none, or no pair at all.
    Source: SkiLL section 3.3, equations 3-5; DINO, equations 1-3.
    """
    if student_logits.shape[1:] != teacher_logits.shape[1:] or student_logits.shape[-1:] != center.shape:
        raise ValueError(
            f"shapes differ: student {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}, "
            f"center {tuple(center.shape)}"
        )
    if 0 in student_logits.shape or 0 in teacher_logits.shape:
        raise ValueError(
            f"nothing to average over: student {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)} "
            f"[views, batch, prototypes]; allowed: at least one of each"
        )
    kernels = implementation(__package__, student_logits)
    return DistillationOutput(
        *kernels.distillation_loss(student_logits, teacher_logits, center, student_temp, teacher_temp, pairs)
    )
