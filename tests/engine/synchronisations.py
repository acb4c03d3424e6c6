"""Raises where the host would wait for a device: values read out of tensors, and shapes that depend on them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
    aten._unique2.default,
}
METHODS = {
    getattr(torch.Tensor, name)
    for name in ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "__index__", "__array__")
}


class Synchronised(Exception):
    """The host read a value of a tensor."""


class _Functions(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in METHODS:
            raise Synchronised(f"Tensor.{function.__name__}")
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A boolean mask as an index is as long as it has True values: a number that the host must know.
        masks = operation in (aten.index.Tensor, aten.index_put_.default) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if operation in READS or masks:
            raise Synchronised(str(operation))
        return operation(*args, **(kwargs or {}))


class NoSynchronisation:
    """``with NoSynchronisation(): step()``, in this thread; on a CPU, where nothing else would tell."""

    def __enter__(self) -> None:
        self._modes = (_Functions(), _Operations())
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *failure: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*failure)
