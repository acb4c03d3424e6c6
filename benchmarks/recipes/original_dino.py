"""The recipe of DINO's paper and its training script, as they describe it: every part eager, loops over parameters.

Source: DINO (Caron et al. 2021), algorithm 1 and section 3; the script clips each tensor's gradient by its own norm,
reads the loss and waits for the device in every step. In bf16 by autocast, where the script scales losses in fp16.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.recipes import (
    CENTER_MOMENTUM,
    CLIP,
    EMA_MOMENTUM,
    STUDENT_TEMP,
    TEACHER_TEMP,
    Job,
    Networks,
    adamw,
    mixed_precision,
)


class LoopLoss(nn.Module):
    """A softmax a teacher view, a log-softmax a pair of views, a mean over the pairs of different views."""

    center: Tensor

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(1, prototypes))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """student: [views, batch, prototypes] logits; teacher: [2, batch, prototypes]."""
        outputs = (student / STUDENT_TEMP).unbind(0)
        targets = torch.softmax((teacher - self.center) / TEACHER_TEMP, dim=-1).detach().unbind(0)
        total, terms = torch.zeros((), device=student.device), 0
        for t, target in enumerate(targets):
            for s, output in enumerate(outputs):
                if s != t:
                    total = total + torch.sum(-target * torch.log_softmax(output, dim=-1), dim=-1).mean()
                    terms += 1
        self.move_center(teacher)
        return total / terms

    @torch.no_grad()
    def move_center(self, teacher: Tensor) -> None:
        mean = teacher.flatten(0, 1).float().mean(dim=0, keepdim=True)
        self.center.copy_(self.center * CENTER_MOMENTUM + mean * (1 - CENTER_MOMENTUM))


def clip_each(student: nn.Module) -> None:
    """Each tensor's gradient to a norm of at most ``CLIP``; the host reads every norm, as the script does."""
    for parameter in student.parameters():
        if parameter.grad is not None:
            share = CLIP / (parameter.grad.norm(2) + 1e-6)
            if share < 1:
                parameter.grad.mul_(share)


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module) -> None:
    """The moving average, a parameter at a time."""
    for mine, theirs in zip(teacher.parameters(), student.parameters()):
        mine.mul_(EMA_MOMENTUM).add_((1 - EMA_MOMENTUM) * theirs.detach())


def make(job: Job, networks: Networks) -> Callable[[dict[str, Tensor]], Tensor]:
    student, teacher = networks.student, networks.teacher
    optimizer, loss_of = adamw(student), LoopLoss(networks.prototypes).to(job.device)

    def step(crops: dict[str, Tensor]) -> Tensor:
        with mixed_precision(job):
            targets = teacher(crops["global"])
            loss = loss_of(student(crops["global"], crops["local"]), targets)
        if not math.isfinite(loss.item()):
            raise AssertionError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        clip_each(student)
        optimizer.step()
        average(teacher, student)
        if job.device != "cpu":
            torch.cuda.synchronize()
        return loss.detach()

    return step
