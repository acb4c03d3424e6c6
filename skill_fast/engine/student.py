"""The student under DeepSpeed, as a step uses it: forward, backward, update, and what the update was.

DeepSpeed owns the student's weights and their update; this class adds what it leaves open: schedules written into the
parameter groups, one answer to "was the step applied" for every stage, and where the fp32 masters lie. It is built by
``deepspeed_engine.build_engine``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skill_fast.engine.ds_config import batch_layout, precision_of, stage_of
from skill_fast.engine.flat_groups import FlatGroup, flatten_masters, zero_groups
from skill_fast.engine.masked_step import take_over_stage_0, take_over_zero, unasked
from skill_fast.engine.param_groups import CONSTANT_LR, LAST_LAYER, ParamGroup
from skill_fast.errors import NotFinite

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Engine:
    """A student under DeepSpeed: ``loss = f(engine(batch)); engine.backward(loss); engine.step()``."""

    def __init__(self, deepspeed_engine: Any, groups: Sequence[ParamGroup], ds_config: dict[str, Any]) -> None:
        self.ds = deepspeed_engine
        self.groups = tuple(groups)
        self.ds_config = ds_config
        self.stage = stage_of(ds_config)
        self.precision = precision_of(ds_config)
        self.dtype = DTYPES[self.precision]
        self.device = torch.device(deepspeed_engine.device)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.global_batch, self.micro_batch, self.micro_steps = batch_layout(ds_config, self.world_size)
        self.module: nn.Module = deepspeed_engine.module
        self._scale_to_undo = 1.0
        """Stage 0 in fp16 leaves the loss scale in the gradient norm; every other optimizer takes it out."""
        self.names = {param: name for name, param in self.module.named_parameters()}
        self.flat_groups: list[FlatGroup] = self._find_masters()
        if self.precision != "fp16" and self.stage > 0:
            take_over_zero(deepspeed_engine.optimizer)
        elif self.precision == "bf16":
            take_over_stage_0(deepspeed_engine.optimizer)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The student's forward, under DeepSpeed's hooks."""
        return self.ds(*inputs, **named)

    def backward(self, loss: Tensor) -> None:
        """Backward of a scalar loss; DeepSpeed divides by the accumulation steps, scales in fp16 and reduces.

        A loss that is not finite makes every gradient NaN, also where its own gradient would be finite (an infinity
        that was added): the step is then skipped on all ranks.
        """
        loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan).to(loss.dtype)
        if self.precision == "fp16" and self.stage == 0:
            # DeepSpeed 0.19.8 divides stage-0 fp16 gradients by the loss scale but never multiplies the loss by it.
            self._scale_to_undo = self.ds.optimizer.loss_scale
            loss = loss.float() * self._scale_to_undo
        self.ds.backward(loss)

    def step(self) -> None:
        """Update the weights at an accumulation boundary; a step with non-finite gradients moves nothing.

        The host does not wait for the device, but in fp16 and with the optimizer on the CPU. Raises NotFinite where
        fp16's loss scale can not become smaller.
        """
        if self.precision == "fp16":
            self._step_in_fp16()
            return
        with unasked():
            self.ds.step()

    def _step_in_fp16(self) -> None:
        try:
            self.ds.step()
        except Exception as error:  # DeepSpeed 0.19.8 raises this one bare, from its loss scaler
            if "loss scale already at minimum" not in str(error):
                raise
            raise NotFinite(
                f"fp16's loss scale is at its least and gradients are still not finite: {error}",
                allowed="gradients that some loss scale keeps within fp16",
                change="a lower --optimizer.lr, or bf16; checkpoints already written are kept",
            ) from error

    @property
    def searches_for_a_loss_scale(self) -> bool:
        """Whether skipped steps are how fp16 finds its loss scale (0 in the ds_config), and so no fault of a run."""
        return self.precision == "fp16" and float(self.ds_config["fp16"].get("loss_scale", 0)) == 0

    @property
    def finite(self) -> Tensor:
        """[] bool on the device: whether the gradients at the latest boundary were finite, and so the step applied."""
        if self.precision == "fp16":  # DeepSpeed's own decision, with its loss scale
            return torch.full((), bool(self.ds.was_step_applied()), device=self.device)
        return torch.isfinite(self.grad_norm)

    @property
    def grad_norm(self) -> Tensor:
        """[] fp32 on the device: norm of all gradients at the latest boundary, unscaled, before clipping."""
        norm = torch.as_tensor(self.optimizer_wrapper._global_grad_norm, device=self.device)
        return norm.detach().to(torch.float32) / self._scale_to_undo

    @property
    def optimizer_wrapper(self) -> Any:
        """DeepSpeed's optimizer around ours (ours itself at stage 0 in fp32)."""
        return self.ds.optimizer

    def set_schedules(
        self, lr: float, weight_decay: float, freeze_last_layer: bool = False, peak_lr: float | None = None
    ) -> None:
        """Write this step's learning rate and weight decay into the parameter groups.

        Weight decay reaches only groups that decay. ``freeze_last_layer`` gives the last layer's groups a learning rate
        and a decay of 0; its moments go on averaging and its gradient still counts in the norm.
        ``peak_lr`` is the rate of the groups that keep theirs.
        """
        for group in self.optimizer_wrapper.param_groups:
            frozen = freeze_last_layer and group["name"].startswith(LAST_LAYER)
            constant = peak_lr is not None and group["name"].startswith(CONSTANT_LR)
            group["lr"] = 0.0 if frozen else peak_lr if constant else lr
            group["weight_decay"] = weight_decay if group["decays"] and not frozen else 0.0

    def _find_masters(self) -> list[FlatGroup]:
        optimizer = self.ds.optimizer
        if self.stage > 0:
            return zero_groups(optimizer, self.rank)
        params = [group.params for group in self.groups]
        masters = params if self.precision == "fp32" else optimizer.fp32_groups
        return flatten_masters(params, masters, self.rank, self.world_size)
