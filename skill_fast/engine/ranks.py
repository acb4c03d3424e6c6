"""Meeting the other ranks, and noticing when one of them is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from skill_fast.errors import BadUsage, LostRank

T = TypeVar("T")

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


def share_cores() -> None:
    """Give every rank of this machine its part of the cores; OMP_NUM_THREADS, where set, stays in force."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores_of_rank())


def least_of_ranks(number: float) -> float:
    """The least of all ranks' numbers, the same on each of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return number
    on_gpu = dist.get_backend() == "nccl"
    least = torch.tensor(number, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return float(least)


@dataclass(frozen=True)
class Joined:
    """This process among the ranks of a command that any launcher may have started; alone by default."""

    rank: int = 0
    count: int = 1
    _everyone: dist.ProcessGroup | None = None

    def told_by_first(self, value: T) -> T:
        """Rank 0's value on every rank."""
        if self.count == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]

    def wait_for_all(self) -> None:
        """Wait until every rank is here, a week at most; a rank that died is noticed at once."""
        if self._everyone is not None:
            dist.barrier(self._everyone)


@contextmanager
def joined() -> Iterator[Joined]:
    """Meet the other ranks over gloo, where there are any; raises LostRank when one of them is gone."""
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield Joined()
        return
    share_cores()
    meet("gloo", timedelta(minutes=10))
    try:
        with naming_lost_ranks():
            # Made while all are alive: a group waits for its members' addresses, a barrier sees a closed connection.
            everyone = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timedelta(days=7)))
            yield Joined(dist.get_rank(), dist.get_world_size(), everyone)
    finally:
        dist.destroy_process_group()


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
