"""Raises where the host would wait for a device: values read out of tensors, and shapes that depend on them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy", "argwhere",
    "masked_select", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "_unique", "_unique2", "bincount",
    "_linalg_check_errors",
}  # fmt: skip
"""Operations by name whose results or shapes the host must know."""
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_unsafe_index_put", "_index_put_impl_"}
METHODS = {
    getattr(torch.Tensor, name)
    for name in (
        "item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__",
        "__dlpack__", "__contains__", "__repr__", "__format__",
    )
}  # fmt: skip


class Synchronised(Exception):
    """The host read a value of a tensor."""


class _Functions(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in METHODS:
            raise Synchronised(f"Tensor.{function.__name__}")
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        if name in READS or (name in INDEXING and any(_is_mask(index) for index in args[1])):
            raise Synchronised(str(operation))
        if name == "repeat_interleave" and (kwargs or {}).get("output_size") is None:
            raise Synchronised(f"{operation} without output_size")
        return operation(*args, **(kwargs or {}))


def _is_mask(index: torch.Tensor | None) -> bool:
    """A mask as an index is as long as it has True values: a number that the host must know."""
    return index is not None and index.dtype == torch.bool


class NoSynchronisation:
    """``with NoSynchronisation(): step()``, in this thread; on a CPU, where nothing else would tell.

    Stricter than a GPU in one case: ``x[mask] = number`` is filled without waiting there. Not seen: ``.to("cpu")``,
    which on a CPU is what ``.to(device)`` is, and copies from memory that is not pinned.
    """

    def __enter__(self) -> None:
        self._modes = (_Functions(), _Operations())
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *failure: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*failure)
