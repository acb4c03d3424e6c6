"""The guard of the step: each way to read a tensor's values is caught, and what only computes is let through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.engine.synchronisations import NoSynchronisation, Synchronised


def assigned(x: torch.Tensor, index: object, value: object) -> None:
    x[index] = value


def read_in_backward(x: torch.Tensor) -> None:
    leaf = x.clone().requires_grad_()
    leaf.register_hook(lambda gradient: gradient * float(gradient.sum()))
    leaf.sum().backward()


WAITS = {
    "item": lambda x: x[0].item(),
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.numpy(),
    "numpy.asarray": lambda x: np.asarray(x),
    "numpy.from_dlpack": lambda x: np.from_dlpack(x),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x[0]),
    "if": lambda x: 1 if (x > 0).any() else 0,
    "float": lambda x: float(x[0]),
    "math": lambda x: math.isfinite(x[0]),
    "int": lambda x: int(x[0]),
    "index of a list": lambda x: [1, 2, 3][x[0].long()],
    "range": lambda x: range(x[0].long()),
    "complex": lambda x: complex(x[0]),
    "in": lambda x: 1.0 in x,
    "format": lambda x: f"{x[0]:.3f}",
    "print": lambda x: str(x),
    "==": lambda x: x.equal(x),
    "torch.equal": lambda x: torch.equal(x, x + 1),
    "allclose": lambda x: torch.allclose(x, x),
    "is_nonzero": lambda x: torch.is_nonzero(x[0]),
    "nonzero": lambda x: x.nonzero(),
    "nonzero as tuple": lambda x: x.nonzero(as_tuple=True),
    "where of one argument": lambda x: torch.where(x > 0),
    "argwhere": lambda x: torch.argwhere(x),
    "masked_select": lambda x: x.masked_select(x > 0),
    "masked_select out": lambda x: torch.masked_select(x, x > 0, out=torch.empty(2)),
    "read by mask": lambda x: x[x > 0],
    "read by mask and number": lambda x: x.expand(2, 3)[:, x > 0],
    "write by mask": lambda x: assigned(x, x > 0, torch.ones(2)),
    "index_put": lambda x: x.index_put((x > 0,), torch.ones(2)),
    "index_put_": lambda x: x.index_put_((x > 0,), torch.ones(2), accumulate=True),
    "unique": lambda x: x.unique(),
    "unique with counts": lambda x: torch.unique(x, return_counts=True),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "unique of rows": lambda x: torch.unique(x[None], dim=0),
    "bincount": lambda x: torch.bincount(x.abs().long()),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.tensor([1, 2, 1])),
    "inverse": lambda x: torch.linalg.inv(torch.eye(2)),
    "in a backward pass": read_in_backward,
}

HARMLESS = {
    "arithmetic": lambda x: (x * 2).clamp(min=0).softmax(0),
    "where of three arguments": lambda x: torch.where(x > 0, x, 0.0),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "read by places": lambda x: x[torch.tensor([0, 2])],
    "write by places": lambda x: assigned(x, torch.tensor([0, 2]), torch.ones(2)),
    "slices": lambda x: assigned(x, slice(1, None), x[:1] + x[:2]),
    "repeat_interleave by a number": lambda x: x.repeat_interleave(2),
    "repeat_interleave, length known": lambda x: x.repeat_interleave(torch.tensor([1, 2, 1]), output_size=4),
    "randperm": lambda x: torch.randperm(3)[:2],
    "shapes": lambda x: [x.shape[0] == 3, len(x), x.numel(), x.is_contiguous(), x.dtype],
    "backward": lambda x: x.clone().requires_grad_().square().sum().backward(),
}


@pytest.fixture
def numbers() -> torch.Tensor:
    return torch.tensor([1.0, -1.0, 2.0])


@pytest.mark.parametrize("name", WAITS)
def test_what_reads_a_value_is_caught(numbers: torch.Tensor, name: str) -> None:
    with pytest.raises(Synchronised), NoSynchronisation():
        WAITS[name](numbers)
    WAITS[name](numbers)  # and is no error by itself


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_computes_is_let_through(numbers: torch.Tensor, name: str) -> None:
    with NoSynchronisation():
        HARMLESS[name](numbers)
