"""What a step sends to other ranks: every collective's payload, counted as torch issues it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = {
    "allreduce_": "all-reduce",
    "allreduce_coalesced_": "all-reduce",
    "_allgather_base_": "all-gather",
    "allgather_": "all-gather",
    "allgather_into_tensor_coalesced_": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "reduce_scatter_": "reduce-scatter",
    "reduce_": "reduce",
    "broadcast_": "broadcast",
    "alltoall_base_": "all-to-all",
    "alltoall_": "all-to-all",
    "barrier": "barrier",
}


class Traffic(TorchDispatchMode):
    """``with Traffic() as traffic: step()``; ``traffic.bytes`` is {collective: bytes}, ``traffic.calls`` how many.

    The bytes of a collective are those of its largest tensor list: what each rank holds when it is done (the gathered
    whole of an all-gather) or begins with (the whole of a reduce-scatter). What travels over a link follows from them
    and the algorithm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = defaultdict(int)
        self.calls: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        namespace, _, name = func._schema.name.partition("::")
        if namespace == "c10d":
            kind = NAMES.get(name, name)
            self.calls[kind] += 1
            self.bytes[kind] += max((_bytes(argument) for argument in args), default=0)
        return func(*args, **(kwargs or {}))


def _bytes(argument: Any) -> int:
    if isinstance(argument, torch.Tensor):
        return argument.numel() * argument.element_size()
    if isinstance(argument, Iterable) and not isinstance(argument, str | bytes):
        return sum(_bytes(part) for part in argument)
    return 0
