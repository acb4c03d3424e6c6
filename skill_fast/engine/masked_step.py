"""Optimizer steps that a non-finite gradient masks on the device, so that the host need not ask whether it is one.

DeepSpeed 0.19.8 reads the gradient norm on the host before each update: the GPU drains, every step. torch's fused AdamW
takes a tensor instead, ``found_inf``: where it is 1, weights, moments and step counts stay as they are. So::

    norm = norm of all gradients, over all ranks;   found_inf = 1 where it is not finite
    gradients / max(1, norm / clip);   fused AdamW with found_inf;   weights in the model's dtype <- masters

fp16 searches for its loss scale by steps that overflow, and DeepSpeed decides that on the host: it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class MaskedAdamW(torch.optim.AdamW):
    """Fused AdamW whose ``step`` computes the norm, clips to ``max_norm`` and masks, for fp32 without ZeRO.

    ``overflow`` stays False and ``_global_grad_norm`` is a tensor: what DeepSpeed's engine reads of its own optimizers.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], max_norm: float, **options: Any) -> None:
        super().__init__(groups, **options)
        self.max_norm = max_norm
        self.overflow = False
        self._global_grad_norm: Tensor | float = 0.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._global_grad_norm = clip_and_mask(self, grads, self.max_norm)
        super().step()


def clip_and_mask(optimizer: torch.optim.Optimizer, grads: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale ``grads`` in place to at most ``max_norm`` (0: not at all), set ``found_inf``; returns the norm before, [].

    With DeepSpeed's formula, ``1 / max(1, (norm + 1e-6) / max_norm)``, so that all stages clip alike.
    """
    norm = torch.nn.utils.get_total_norm(grads)
    mask(optimizer, norm)
    if max_norm > 0:
        torch._foreach_mul_(list(grads), 1.0 / ((norm + 1e-6) / max_norm).clamp(min=1.0))
    return norm


def mask(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """Have the next step of a fused AdamW change nothing where ``norm`` is not finite."""
    optimizer.found_inf = (~torch.isfinite(norm)).to(torch.float32)  # type: ignore[attr-defined]


@contextmanager
def unasked() -> Iterator[None]:
    """Within it ZeRO 1 and 2 take every gradient norm for valid: those that are not are masked."""
    from deepspeed.runtime.zero import stage_1_and_2 as zero

    asks, zero.is_invalid_grad_norm = zero.is_invalid_grad_norm, _never
    try:
        yield
    finally:
        zero.is_invalid_grad_norm = asks


def _never(_norm: Any) -> bool:
    return False


def take_over_zero(zero: Any) -> None:
    """Give DeepSpeed's ZeRO 1/2 optimizer a norm that masks its AdamW; its step is to be called within ``unasked``."""
    zero.check_grad_overflow = False
    norm_of_zero: Callable[[], Tensor] = zero.scaled_global_norm

    def scaled_global_norm(*arguments: Any, **named: Any) -> Tensor:
        # Infinite where any group's norm is not finite (combine_grad_norm_groups), the same on all ranks.
        norm = norm_of_zero(*arguments, **named)
        where = zero.single_partition_of_fp32_groups[0].device  # the CPU where the optimizer is offloaded
        mask(zero.optimizer, norm.to(where))
        return norm

    zero.scaled_global_norm = scaled_global_norm


def take_over_stage_0(wrapper: Any) -> None:
    """Replace the step of DeepSpeed's optimizer for bf16 without ZeRO (FP16_UnfusedOptimizer, no loss scale)."""

    @torch.no_grad()
    def step(closure: None = None) -> bool:
        grads = []
        for masters, params in zip(wrapper.fp32_groups, wrapper.fp16_groups):
            for master, param in zip(masters, params):
                master.grad = torch.zeros_like(master) if param.grad is None else param.grad.to(master.dtype)
                grads.append(master.grad)
        wrapper._global_grad_norm = clip_and_mask(wrapper.optimizer, grads, wrapper.clip_grad)
        wrapper.optimizer.step()
        for masters, params in zip(wrapper.fp32_groups, wrapper.fp16_groups):
            torch._foreach_copy_(list(params), list(masters))
            for master in masters:
                master.grad = None
        return False

    wrapper.step = step
