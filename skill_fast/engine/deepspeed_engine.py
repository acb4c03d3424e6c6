"""The door to DeepSpeed: its process group, and a student, an optimizer and a ds_config handed to it.

All of this happens once, before the first step, and refuses what DeepSpeed or the device can not do; what a step then
uses is ``student.Engine``.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from skill_fast.engine.ds_config import batch_layout, check_ds_config, load_ds_config, precision_of, stage_of
from skill_fast.engine.lars import build_lars
from skill_fast.engine.masked_step import MaskedAdamW
from skill_fast.engine.param_groups import ParamGroup, param_groups
from skill_fast.engine.ranks import meet, share_cores
from skill_fast.engine.student import Engine
from skill_fast.errors import BadUsage

__all__ = ["Engine", "batch_layout", "build_engine", "check_ds_config", "init_distributed", "leave", "load_ds_config"]


def init_distributed(timeout_minutes: float = 10.0) -> tuple[int, int, torch.device]:
    """Join the process group and return (rank, world_size, device).

    Under the deepspeed launcher or torchrun the environment says who we are; started by plain python this is a world of
    one, which needs no port. NCCL with a GPU, gloo without. Calling it again changes nothing.
    """
    _quiet_deepspeed()
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise BadUsage(
                f"local rank {local_rank} has no GPU",
                allowed=f"up to {torch.cuda.device_count()} ranks on this machine",
                change="the launcher's --num_gpus or --nproc-per-node",
            )
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        timeout = timedelta(minutes=timeout_minutes)
        if launched:
            meet(backend, timeout)
        else:
            os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
            dist.init_process_group(backend, timeout=timeout, store=dist.HashStore(), rank=0, world_size=1)
    import deepspeed  # seconds to import: after the launch is known to be sound

    if device.type == "cpu":
        share_cores()
        # Else DeepSpeed 0.19.8 compiles a shared-memory all-reduce (45 s of C++) that only inference uses.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with _only_warnings():
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    return dist.get_rank(), dist.get_world_size(), device


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def build_engine(
    model: nn.Module,
    ds_config: dict[str, Any],
    groups: Sequence[ParamGroup] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    lars: bool = False,
) -> Engine:
    """Hand a student to DeepSpeed, with AdamW over ``groups`` (``param_groups(model)`` unless given).

    ``lars``: LARS with momentum ``betas[0]`` instead, at ZeRO stage 0.

    The model is cast to the dtype of the ds_config in place and moved to the device; in bf16 and fp16 its masters start
    from the rounded weights (DeepSpeed casts first). Learning rate and weight decay are 0 until ``set_schedules``.
    Raises BadUsage when DeepSpeed refuses the configuration or the device lacks the precision.
    """
    check_ds_config(ds_config)
    _, world_size, device = init_distributed()
    import deepspeed

    groups = param_groups(model) if groups is None else groups
    resolved, clip = _resolved(ds_config, world_size)
    options = {"lr": 0.0, "betas": betas, "eps": eps, "fused": True}
    optimizer: torch.optim.Optimizer
    stage, precision = stage_of(ds_config), precision_of(ds_config)
    if lars:
        optimizer = build_lars(groups, stage=stage, precision=precision, max_norm=clip, momentum=betas[0])
    elif stage == 0 and precision == "fp32":
        optimizer = MaskedAdamW([g.for_optimizer() for g in groups], max_norm=clip, **options)
    else:
        optimizer = torch.optim.AdamW([g.for_optimizer() for g in groups], **options)  # type: ignore[arg-type]
    _check_device(precision_of(ds_config), device)
    with _only_warnings():
        _check_with_deepspeed(resolved)
        ds_engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=resolved)
    if stage_of(ds_config) == 0 and precision_of(ds_config) != "fp32":
        # DeepSpeed 0.19.8 takes one step with zero gradients to allocate the moments: forget that it counted.
        optimizer.state.clear()
    return Engine(ds_engine, groups, ds_config)


def _resolved(ds_config: dict[str, Any], world_size: int) -> tuple[dict[str, Any], float]:
    """The configuration as DeepSpeed gets it, and the clipping norm (which fp32 at stage 0 carries out itself)."""
    batch, micro_batch, micro_steps = batch_layout(ds_config, world_size)
    resolved = copy.deepcopy(ds_config)
    resolved["train_batch_size"] = batch
    resolved["train_micro_batch_size_per_gpu"] = micro_batch
    resolved["gradient_accumulation_steps"] = micro_steps
    # DeepSpeed 0.19.8 times throughput by default, and waits for the device twice a micro-batch to do so.
    resolved["timers"] = {"throughput": {"enabled": False}, **resolved.get("timers", {})}
    clip = float(resolved.get("gradient_clipping", 0.0))
    if stage_of(ds_config) == 0 and precision_of(ds_config) == "fp32":
        resolved["gradient_clipping"] = 0.0
    return resolved, clip


def _check_with_deepspeed(config: dict[str, Any]) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError

    try:
        DeepSpeedConfig(copy.deepcopy(config))
    except (
        ValueError,
        AssertionError,
        DeepSpeedConfigError,
        TypeError,
        KeyError,
    ) as error:  # pydantic's is a ValueError
        raise BadUsage(
            f"DeepSpeed refuses the ds_config: {error}",
            allowed="see ds_configs/README.md and DeepSpeed's configuration reference",
            change="the key that the message names (the ds_config owns it)",
        ) from error


def _check_device(precision: str, device: torch.device) -> None:
    from deepspeed.accelerator import get_accelerator

    supported = {"bf16": get_accelerator().is_bf16_supported, "fp16": get_accelerator().is_fp16_supported}
    if precision in supported and not supported[precision]():
        raise BadUsage(
            f"the ds_config enables {precision}, which this {device.type} can not compute in",
            allowed="a precision of the device: bf16 from Ampere on, fp16 on every GPU, fp32 everywhere",
            change=f'"{precision}": {{"enabled": false}} (the ds_config owns it), or another file of ds_configs/',
        )


def _quiet_deepspeed() -> None:
    """Before DeepSpeed is imported: it need not announce a missing GPU, the run's own header names the device."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Keep DeepSpeed's logger at warnings, whatever a configuration or an import made of it."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    yield
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
