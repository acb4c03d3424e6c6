"""Meeting the other ranks, and noticing when one of them is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from skill_fast.errors import BadUsage, LostRank

# gloo's words; NCCL raises DistBackendError.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "timed out after")


def meet(backend: str, timeout: timedelta) -> None:
    """Join the launcher's process group; raises BadUsage when its port is taken."""
    try:
        dist.init_process_group(backend, timeout=timeout)
    except dist.DistNetworkError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise BadUsage(
            f"the ranks can not meet at {where}: {str(error).splitlines()[0]}",
            allowed="a port that no other run on the machine uses",
            change="deepspeed --master_port NUMBER skill_fast/train.py ...",
        ) from error


def cores_of_rank() -> int:
    """This rank's part of the cores of its machine."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def least_of_ranks(number: float) -> float:
    """The least of all ranks' numbers, the same on each of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return number
    on_gpu = dist.get_backend() == "nccl"
    least = torch.tensor(number, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return float(least)


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Turn what gloo and NCCL raise when another rank is gone into LostRank; other errors pass."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not isinstance(error, dist.DistBackendError | dist.DistNetworkError) and not any(w in said for w in LOST):
            raise
        raise LostRank(
            f"another rank died or stopped answering: {said.splitlines()[0]}",
            allowed="all ranks alive from the first step to the last",
            change="look at the other ranks' output, then run the same command: it goes on from the last checkpoint",
        ) from error
