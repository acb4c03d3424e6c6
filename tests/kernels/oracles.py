"""Definitions written out as loops in float64, for the tests of the definition and of the kernels."""

from __future__ import annotations

import torch


def softmax(row: torch.Tensor) -> torch.Tensor:
    shifted = row - row.max()
    return torch.exp(shifted) / torch.exp(shifted).sum()


def oracle(student, teacher, center, student_temp, teacher_temp, pairs):
    """Loss, teacher_sum, entropy and KL by loops over pairs and rows, float64, differentiable in ``student``."""
    student, teacher, center = student.double(), teacher.double(), center.double()
    losses, kls, entropies = [], [], []
    for t in range(teacher.shape[0]):
        for b in range(teacher.shape[1]):
            q = softmax((teacher[t, b] - center) / teacher_temp)
            entropies.append(-(q * torch.log(q.clamp_min(1e-300))).sum())
        for s in range(student.shape[0]):
            if (pairs == "dino" and s == t) or (pairs == "cross_resolution" and s < 2):
                continue
            for b in range(teacher.shape[1]):
                q = softmax((teacher[t, b] - center) / teacher_temp)
                row = student[s, b] / student_temp
                log_p = row - row.max() - torch.log(torch.exp(row - row.max()).sum())
                losses.append(-(q * log_p).sum())
                kls.append((q * (torch.log(q.clamp_min(1e-300)) - log_p)).sum())
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return mean(losses), teacher.sum((0, 1)), mean(entropies), mean(kls)


def logits(views: int, batch: int, prototypes: int, seed: int) -> torch.Tensor:
    """Like the head's: cosines in [-1, 1]."""
    return torch.rand(views, batch, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1
