"""Every method on 1 or 2 ranks: the whole batch's loss, gradient and state, written down by rank 0.

Started by tests/methods/test_ranks.py, one process a rank; each takes its part of the same 8 samples.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from skill_fast.methods import METHODS
from tests.methods.small import CNN, VIT, build, crops, labels

BATCH = 8


def run(name: str, backbone, rank: int, world: int) -> dict[str, torch.Tensor]:
    method = build(name, backbone, double=True)
    method.to(torch.device("cpu"))
    size = BATCH // world
    mine = slice(rank * size, (rank + 1) * size)
    given = {k: v[:, mine] for k, v in crops(method, BATCH, dtype=torch.float64).items()}
    loss, _ = method.loss(method.student, given, 0.04, {k: v[mine] for k, v in labels(BATCH).items()})
    method.reduce()
    loss.backward()
    method.commit(torch.tensor(True))
    found = {"loss": loss.detach().double()}
    found |= {key: weight.grad.double() for key, weight in method.student.named_parameters()}
    for value in found.values():
        dist.all_reduce(value)
        value /= world
    kept = method.state_dict()
    for key, value in kept.items():
        every = [torch.empty_like(value) for _ in range(world)]
        dist.all_gather(every, value.contiguous())
        assert all(torch.equal(every[0], other) for other in every), f"{name}: {key} differs between ranks"
    found |= {f"state.{key}": value for key, value in kept.items()}
    found |= {f"buffer.{key}": v for key, v in method.student.named_buffers() if v.is_floating_point()}
    return {key: value.clone() for key, value in found.items()}


def main(folder: Path) -> None:
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)
    rank, world = dist.get_rank(), dist.get_world_size()
    cases = [(name, VIT) for name in METHODS] + [("simclr", CNN), ("byol", CNN)]
    for name, backbone in cases:
        found = run(name, backbone, rank, world)
        if rank == 0:
            save_file(found, folder / f"{name}-{backbone.name}-{world}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
