"""LARS, timm's, for large-batch training of CNNs by BYOL and SimCLR. It needs each tensor's norm: ZeRO stage 0 only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import Lars
from torch import Tensor

from skill_fast.engine.param_groups import ParamGroup
from skill_fast.errors import BadUsage

TRUST = 0.001


class GuardedLars(Lars):
    """timm's LARS that clips to ``max_norm`` by itself and lets a step with non-finite gradients move nothing.

    For fp32 without ZeRO, as ``deepspeed_engine.GuardedAdamW``. Weights without decay (biases, norms) get plain SGD
    with momentum, as in BYOL and SimCLR. Source: You et al. 2017, with timm's implementation.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], max_norm: float, **options: Any) -> None:
        super().__init__(groups, **options)
        self.max_norm = max_norm
        self.overflow = False
        self._global_grad_norm: Tensor | float = 0.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in params])
        self._global_grad_norm = norm
        self.overflow = not bool(torch.isfinite(norm))
        if self.overflow:
            return
        if self.max_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(params, self.max_norm, norm)
        super().step()


def build_lars(
    groups: Sequence[ParamGroup], *, stage: int, precision: str, max_norm: float, momentum: float
) -> torch.optim.Optimizer:
    """LARS over parameter groups; learning rate and decay are 0 until they are scheduled.

    Raises BadUsage for ZeRO stages above 0, where a tensor's norm can not be seen.
    """
    if stage > 0:
        raise BadUsage(
            f"--optimizer.name lars with ZeRO stage {stage}: the ranks hold slices of flat buffers, not tensors",
            allowed="lars with stage 0, adamw with every stage",
            change="--ds_config ds_configs/zero0.json, or --optimizer.name adamw",
        )
    options: dict[str, Any] = {"lr": 0.0, "momentum": momentum, "trust_coeff": TRUST}
    dictionaries = [group.for_optimizer() for group in groups]
    if precision == "fp32":
        return GuardedLars(dictionaries, max_norm, **options)
    return Lars(dictionaries, **options)
