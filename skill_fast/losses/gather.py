"""Rows of all ranks on every rank, with a gradient: what makes a contrastive loss independent of the world size."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch import distributed as dist


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        every = rows.new_empty(dist.get_world_size() * rows.shape[0], *rows.shape[1:])
        dist.all_gather_into_tensor(every, rows.contiguous())
        return every

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]


def spread() -> bool:
    """Whether there is more than one rank."""
    return dist.is_initialized() and dist.get_world_size() > 1


def gathered(rows: Shaped[Tensor, " rows *shape"]) -> Shaped[Tensor, " all_rows *shape"]:
    """The rows of rank 0, then those of rank 1 ..., [world x rows, ...]; the rows themselves with one rank.

    Every rank must have as many. The gradient of a row is the sum of what all ranks' losses say of it, so averaging
    over the ranks (as data parallelism does) gives the gradient of the mean of their losses, exactly.
    """
    return _Gathered.apply(rows) if spread() else rows


def place_of_rank(rows: int) -> int:
    """Where this rank's first row stands among the gathered ones."""
    return dist.get_rank() * rows if spread() else 0
