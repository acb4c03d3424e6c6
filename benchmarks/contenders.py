"""The ways to do the kernels' work that `benchmarks.kernels` compares, each a function without arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skill_fast.kernels.centering import reference as centering
from skill_fast.kernels.distillation import reference as distillation
from skill_fast.kernels.ema import reference as ema

STUDENT_TEMP, TEACHER_TEMP, MOMENTUM = 0.1, 0.04, 0.9995


@dataclass(frozen=True)
class Task:
    """One operation on given tensors; ``least_bytes`` is what any implementation must read and write."""

    name: str
    ways: dict[str, Callable[[], Any]]
    """By contender. Each returns (results to compare with the reference's) and may change its own copies only."""
    least_bytes: int
    held_bytes: int
    """Inputs and outputs: what memory is compared with."""
    shapes: dict[str, list[int]]
    dtype: str


def original_loops(student: Tensor, teacher: Tensor, center: Tensor) -> Tensor:
    """DINO's own loss: a softmax a teacher view, a log-softmax a pair, under autocast as it trains (fp32 softmaxes)."""
    with torch.autocast(student.device.type, torch.bfloat16, enabled=student.dtype != torch.float32):
        outputs = (student / STUDENT_TEMP).unbind(0)
        targets = torch.softmax((teacher - center) / TEACHER_TEMP, dim=-1).detach().unbind(0)
        losses = [
            torch.sum(-q * torch.log_softmax(p, dim=-1), dim=-1).mean()
            for t, q in enumerate(targets)
            for s, p in enumerate(outputs)
            if s != t
        ]
        return torch.stack(losses).mean()


def distillation_task(
    batch: int, prototypes: int, dtype: torch.dtype, device: torch.device, *, fused: Any, compiled: bool, part: str
) -> Task:
    """The loss at 10 student and 2 teacher views; part: "forward", or "both" with the gradient of the logits.

    fused: the module of the Triton kernels, or None. compiled: with torch.compile of the definition.
    """
    logits = torch.rand(12, batch, prototypes, device=device) * 2 - 1
    student, teacher = logits[:10].to(dtype).requires_grad_(part == "both"), logits[10:].to(dtype)
    center = torch.randn(prototypes, device=device) * 0.05
    del logits

    def way(loss: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            outputs = loss(student, teacher, center, STUDENT_TEMP, TEACHER_TEMP, "dino")
            return (outputs[0], *torch.autograd.grad(outputs[0], student)) if part == "both" else outputs

        return run

    ways = {"reference": way(distillation.distillation_loss)}
    ways["loops"] = way(lambda s, t, c, *_: (original_loops(s, t, c), t.float().sum((0, 1))))
    if compiled:
        ways["compiled"] = way(torch.compile(distillation.distillation_loss, dynamic=False))
    if fused is not None:
        ways["fused"] = way(fused.distillation_loss)
    read, written = 12, 0 if part == "forward" else 22  # of views: the backward pass reads 12 again and writes 10
    view_bytes = batch * prototypes * student.element_size()
    return Task(
        f"distillation/{part}",
        ways,
        (read + written) * view_bytes,
        (12 if part == "forward" else 22) * view_bytes,
        {"student": list(student.shape), "teacher": list(teacher.shape)},
        str(dtype).removeprefix("torch."),
    )


def ema_task(elements: int, device: torch.device, *, fused: Any, compiled: bool) -> Task:
    """The average with a bf16 copy, of one flat shard; foreach and the original's loop see it as 150 parameters."""
    student = torch.randn(elements, device=device)

    def fresh() -> tuple[Tensor, Tensor]:
        return student * 0.5, torch.empty(elements, dtype=torch.bfloat16, device=device)

    def way(update: Callable[..., Any]) -> Callable[[], Any]:
        teacher, out = fresh()
        return lambda: (update(teacher, student, MOMENTUM, out), out)

    def parameters() -> tuple[Any, ...]:
        teacher, out = fresh()
        return teacher, out, *(list(whole.chunk(150)) for whole in (teacher, student, out))

    def loops() -> Callable[[], Any]:
        teacher, out, mine, theirs, copies = parameters()

        def run() -> Any:
            for average, weights, copied in zip(mine, theirs, copies):
                average.mul_(MOMENTUM).add_((1 - MOMENTUM) * weights)
                copied.copy_(average)
            return teacher, out

        return run

    def foreach() -> Callable[[], Any]:
        teacher, out, mine, theirs, copies = parameters()

        def run() -> Any:
            torch._foreach_mul_(mine, MOMENTUM)
            torch._foreach_add_(mine, theirs, alpha=1 - MOMENTUM)
            torch._foreach_copy_(copies, mine)
            return teacher, out

        return run

    ways = {"reference": way(ema.ema_update), "loops": loops(), "foreach": foreach()}
    if compiled:
        ways["compiled"] = way(torch.compile(ema.ema_update, dynamic=False))
    if fused is not None:
        ways["fused"] = way(fused.ema_update)
    return Task("ema", ways, 14 * elements, 10 * elements, {"elements": [elements]}, "float32")


def centering_task(prototypes: int, device: torch.device, *, fused: Any, compiled: bool) -> Task:
    """The center's move; so small that launches are all there is."""
    center, total = torch.randn(2, prototypes, device=device)
    ways: dict[str, Callable[[], Any]] = {
        "reference": lambda: (centering.center_update(center, total, 512, 0.9),),
    }
    if compiled:
        move = torch.compile(centering.center_update, dynamic=False)
        ways["compiled"] = lambda: (move(center, total, 512, 0.9),)
    if fused is not None:
        ways["fused"] = lambda: (fused.center_update(center, total, 512, 0.9),)
    return Task("centering", ways, 12 * prototypes, 12 * prototypes, {"center": [prototypes]}, "float32")


def sinkhorn_task(batch: int, prototypes: int, dtype: torch.dtype, device: torch.device, *, compiled: bool) -> Task:
    """Sinkhorn-Knopp's center, 3 iterations over two views; the loops are SwAV's steps on the whole matrix.

    There is no Triton for it: both backends run the definition.
    """
    logits = (torch.rand(2, batch, prototypes, device=device) * 2 - 1).to(dtype)

    def loops() -> Any:
        q = torch.exp(logits.flatten(0, 1).float() / TEACHER_TEMP)
        q /= q.sum()
        for _ in range(3):
            q /= q.sum(0, keepdim=True) * prototypes
            of_row = q.sum(1, keepdim=True) * q.shape[0]
            q /= of_row
        return (q * q.shape[0],)

    def way(center: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            moved = center(logits, TEACHER_TEMP, 3, lambda _tensor, op: None)
            return (torch.softmax((logits.flatten(0, 1) - moved) / TEACHER_TEMP, dim=-1),)

        return run

    ways: dict[str, Callable[[], Any]] = {"reference": way(centering.sinkhorn), "loops": loops}
    if compiled:
        ways["compiled"] = way(torch.compile(centering.sinkhorn, dynamic=False))
    targets = 2 * batch * prototypes
    read, written = targets * logits.element_size(), targets * 4
    return Task(
        "sinkhorn", ways, read + written, read + written, {"teacher": list(logits.shape)}, str(dtype).split(".")[1]
    )
