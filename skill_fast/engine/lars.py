"""LARS, timm's, for large-batch training of CNNs by BYOL and SimCLR. It needs each tensor's norm: ZeRO stage 0 only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import Lars
from torch import Tensor

from skill_fast.engine.masked_step import clip_and_mask
from skill_fast.engine.param_groups import ParamGroup
from skill_fast.errors import BadUsage

TRUST = 0.001


class MaskedLars(Lars):
    """timm's LARS whose step changes nothing where ``found_inf``, a tensor, is set: ``masked_step`` says why.

    Weights without decay (biases, norms) get plain SGD with momentum, as in BYOL and SimCLR. The weights and moments
    of before are kept during the step: a momentary copy of both. Source: You et al. 2017, with timm's implementation.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is None:
            super().step()
            return
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.clone() for p in params]
        moments = [self.state[p].get("momentum_buffer") for p in params]
        kept = [torch.zeros_like(p) if m is None else m.clone() for p, m in zip(params, moments)]
        super().step()
        for p, weight, moment in zip(params, before, kept):
            p.copy_(torch.where(found_inf > 0, weight, p))
            buffer = self.state[p]["momentum_buffer"]
            buffer.copy_(torch.where(found_inf > 0, moment, buffer))


class ClippingLars(MaskedLars):
    """The same for fp32 without ZeRO: computes the norm, clips to ``max_norm`` and masks by itself."""

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
        return ClippingLars(dictionaries, max_norm, **options)
    return MaskedLars(dictionaries, **options)
