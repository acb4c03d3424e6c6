"""A memory of the latest keys, the same on every rank: the negatives of MoCo and PBCNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from skill_fast.errors import BadUsage


class MemoryQueue:
    """The last ``size`` keys, first in first out, [size, ...] float32; starts as random unit rows, as MoCo's.

    ``put`` replaces the oldest rows without asking the device whether the step was finite::

        places = (next + 0 .. n - 1) mod size
        rows[places] = keys if keep else rows[places];   next = (next + n) mod size if keep else next
    """

    def __init__(self, size: int, *shape: int, seed: int) -> None:
        if size < 1:
            raise BadUsage(f"a queue of {size} keys", allowed="1 or more", change="--mocov2.queue or --pbcnet.queue")
        generator = torch.Generator().manual_seed(seed)
        self.rows = F.normalize(torch.randn(size, *shape, generator=generator), dim=-1)
        self.next = torch.zeros((), dtype=torch.int64)

    def to(self, device: torch.device) -> None:
        self.rows, self.next = self.rows.to(device), self.next.to(device)

    @torch.no_grad()
    def put(self, keys: Float[Tensor, " n *shape"], keep: Tensor) -> None:
        """Take in [n, ...] keys, at most ``size``, where ``keep`` ([] bool) is true; else leave everything as it is."""
        size, n = len(self.rows), len(keys)
        if n > size:
            raise BadUsage(
                f"{n} keys a step for a queue of {size}",
                allowed="a queue of at least the global batch",
                change="--mocov2.queue or --pbcnet.queue",
            )
        places = (self.next + torch.arange(n, device=self.rows.device)) % size
        self.rows[places] = torch.where(keep, keys.to(self.rows.dtype), self.rows[places])
        self.next = torch.where(keep, (self.next + n) % size, self.next)

    def state_dict(self) -> dict[str, Tensor]:
        return {"rows": self.rows, "next": self.next}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises BadUsage where the kept rows have another shape."""
        if state["rows"].shape != self.rows.shape:
            raise BadUsage(
                f"a kept queue of {list(state['rows'].shape)} for one of {list(self.rows.shape)}",
                allowed="the queue of the run that wrote the checkpoint",
                change="--mocov2.queue or --pbcnet.queue",
            )
        self.rows, self.next = state["rows"].to(self.rows.device).clone(), state["next"].to(self.rows.device).clone()
