"""The definition of the distillation loss, in plain torch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

GLOBAL_CROPS = 2


def pairs_of(pairs: str, student_views: int, teacher_views: int = GLOBAL_CROPS) -> list[tuple[int, int]]:
    """List the (teacher view, student view) pairs that the loss is the mean of.

    dino: every teacher view against every student view but the same one.
    cross_resolution: every teacher view against the local crops only (SkiLL, equation 5).
    """
    first = {"dino": 0, "cross_resolution": GLOBAL_CROPS}.get(pairs)
    if first is None:
        raise ValueError(f"pairs is '{pairs}'; allowed: dino, cross_resolution")
    listed = [(t, s) for t in range(teacher_views) for s in range(first, student_views) if t != s]
    if not listed:
        raise ValueError(f"pairs '{pairs}' needs more than {student_views} student views")
    return listed


def distillation_loss(
    student_logits: Float[Tensor, "student_views batch prototypes"],
    teacher_logits: Float[Tensor, "teacher_views batch prototypes"],
    center: Float[Tensor, " prototypes"],
    student_temp: float | Float[Tensor, ""],
    teacher_temp: float | Float[Tensor, ""],
    pairs: str,
) -> tuple[Float[Tensor, ""], Float[Tensor, " prototypes"], Float[Tensor, ""], Float[Tensor, ""]]:
    """See ``skill_fast.kernels.distillation.op.distillation_loss``; returns loss, teacher_sum, teacher_entropy, kl."""
    teacher = teacher_logits.detach().float()
    log_q = torch.log_softmax((teacher - center) / teacher_temp, dim=-1)
    q = log_q.exp()
    log_p = torch.log_softmax(student_logits.float() / student_temp, dim=-1)

    listed = pairs_of(pairs, log_p.shape[0], q.shape[0])
    # One matrix product per teacher view would repeat q; -sum_k q log p for all pairs at once needs no K-wide product.
    cross = -torch.einsum("tbk,sbk->ts", q, log_p) / q.shape[1]
    weight = torch.zeros_like(cross)
    weight[[t for t, _ in listed], [s for _, s in listed]] = 1 / len(listed)
    loss = (cross * weight).sum()

    entropy = -(q * log_q).sum(-1).mean(-1)
    teacher_entropy = entropy.mean()
    kl = (loss - (entropy * weight.sum(1)).sum()).detach()
    return loss, teacher.sum((0, 1)), teacher_entropy, kl
