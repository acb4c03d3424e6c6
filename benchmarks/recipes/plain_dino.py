"""A well-kept training step without this project's parts: plain torch, eager or compiled, nothing that waits.

The step that a DALI recipe of the solo-learn kind has: loop loss, gradient clipping by the global norm, the average a
parameter at a time. Compiled: blocks of both networks and the loss by torch.compile with static shapes, fused AdamW and
a foreach average, what its documentation advises.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.recipes import CLIP, EMA_MOMENTUM, LR, Job, Networks, adamw, mixed_precision
from benchmarks.recipes.original_dino import LoopLoss, average
from skill_fast.models.speed import compile_blocks


@torch.no_grad()
def foreach_average(teacher: nn.Module, student: nn.Module) -> None:
    mine, theirs = list(teacher.parameters()), list(student.parameters())
    torch._foreach_mul_(mine, EMA_MOMENTUM)
    torch._foreach_add_(mine, theirs, alpha=1 - EMA_MOMENTUM)


def make(job: Job, networks: Networks) -> Callable[[dict[str, Tensor]], Tensor]:
    student, teacher = networks.student, networks.teacher
    optimizer: torch.optim.Optimizer = adamw(student)
    loss_of: nn.Module = LoopLoss(networks.prototypes).to(job.device)
    update = average
    if job.recipe.compiled:
        compile_blocks([student, teacher])
        loss_of.compile(dynamic=False)
        optimizer = torch.optim.AdamW(optimizer.param_groups, lr=LR, fused=True)
        update = foreach_average

    def step(crops: dict[str, Tensor]) -> Tensor:
        with mixed_precision(job):
            with torch.no_grad():
                targets = teacher(crops["global"])
            loss = loss_of(student(crops["global"], crops["local"]), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        update(teacher, student)
        return loss.detach()

    return step
