"""How one set of tests runs twice: in a process of its own on a CPU (`test_interpreter.py`) and, `-m gpu`, on a GPU."""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton reads the variable when it is imported, so it holds for a whole process."""

native_or_interpreted = pytest.mark.usefixtures("device") if INTERPRETED else pytest.mark.gpu


def rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """fp32 as the kernels store it in ``dtype``: rounded to nearest, but the interpreter cuts bf16 off."""
    if INTERPRETED and dtype == torch.bfloat16:
        values = (values.view(torch.int32) & -0x10000).view(torch.float32)
    return values.to(dtype)
