"""Where the student's fp32 master weights lie: one description for every ZeRO stage and precision.

ZeRO 1 and 2 flatten each optimizer group into one buffer, pad it to a multiple of the world size and give every rank
one equal slice in fp32. Stage 0 keeps whole fp32 tensors on every rank; ``flatten_masters`` makes them views of one
padded buffer, so that a slice of it plays the same part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 2  # elements a rank: DeepSpeed's own alignment of half-precision slices to 4 bytes


@dataclass(frozen=True)
class FlatGroup:
    """One optimizer group: parameter i occupies ``offsets[i] : offsets[i] + params[i].numel()`` of the flat buffer."""

    params: tuple[nn.Parameter, ...]
    offsets: tuple[int, ...]
    full_numel: int
    """Elements of the whole flat buffer, padding included; a multiple of the world size."""
    shard: slice
    """This rank's part of the flat buffer."""
    fp32_shard: Tensor
    """[full_numel / world] fp32 master weights of that part; on the CPU when the optimizer is offloaded."""
    bit16_flat: Tensor | None
    """[full_numel] the student's weights in the model's dtype; None at stage 0, where they are not one buffer."""

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parameters as views of a flat buffer of this layout."""
        return [flat[start : start + p.numel()].view(p.shape) for start, p in zip(self.offsets, self.params)]


def zero_groups(optimizer: Any, rank: int) -> list[FlatGroup]:
    """Read the layout of DeepSpeed's ZeRO 1/2 optimizer (attribute names as in DeepSpeed 0.19.8)."""
    return [
        FlatGroup(
            params=tuple(optimizer.round_robin_bit16_groups[g]),
            offsets=tuple(optimizer.round_robin_bit16_offsets[g]),
            full_numel=flat.numel(),
            shard=slice(rank * optimizer.partition_size[g], (rank + 1) * optimizer.partition_size[g]),
            fp32_shard=optimizer.single_partition_of_fp32_groups[g],
            bit16_flat=flat,
        )
        for g, flat in enumerate(optimizer.bit16_groups_flat)
    ]


@torch.no_grad()
def flatten_masters(
    params: Sequence[Sequence[nn.Parameter]], masters: Sequence[Sequence[Tensor]], rank: int, world_size: int
) -> list[FlatGroup]:
    """Stage 0: turn each group's fp32 masters into views of one padded buffer, values unchanged.

    params: the model's parameters, per group. masters: their fp32 masters in the same order (the parameters themselves
    when the model is fp32). The optimizer updates them in place, so the buffer follows every step without a copy.
    """
    groups = []
    for group_params, group_masters in zip(params, masters):
        offsets, used = [], 0
        for master in group_masters:
            offsets.append(used)
            used += master.numel()
        full_numel = used + (-used) % (world_size * ALIGNMENT)
        flat = torch.zeros(full_numel, dtype=torch.float32, device=group_masters[0].device)
        for start, master in zip(offsets, group_masters):
            view = flat[start : start + master.numel()].view(master.shape)
            view.copy_(master)
            master.data = view
        part = full_numel // world_size
        shard = slice(rank * part, (rank + 1) * part)
        groups.append(FlatGroup(tuple(group_params), tuple(offsets), full_numel, shard, flat[shard], None))
    return groups


def layout_fingerprint(groups: Sequence[FlatGroup], names: Mapping[nn.Parameter, str], world_size: int) -> str:
    """sha256 over the names, shapes, offsets and padded lengths: two equal ones can exchange shards."""
    described = [
        [[names[p], list(p.shape), start] for p, start in zip(group.params, group.offsets)] + [[group.full_numel]]
        for group in groups
    ]
    return hashlib.sha256(json.dumps([world_size, described]).encode()).hexdigest()
