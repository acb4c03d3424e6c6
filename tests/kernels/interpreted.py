"""How one set of tests runs twice: in a process of its own on a CPU (`test_interpreter.py`) and, `-m gpu`, on a GPU."""

from __future__ import annotations

import os
from typing import Any

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


def patch_language_once_a_launch() -> None:
    """Let Triton 3.9's interpreter replace its language's functions once a launch instead of at every call in a kernel.

    They stay replaced until the launch ends, so calls of ``tl.sum`` and its like in between find nothing to replace;
    looking for it was about half of the time. Does nothing for an interpreter that is written otherwise.
    """
    from triton.runtime import interpreter

    if not all(hasattr(interpreter, name) for name in ("GridExecutor", "_patch_lang", "_LangPatchScope")):
        return
    replaced: set[int] = set()
    launch, replace = interpreter.GridExecutor.__call__, interpreter._patch_lang

    def launch_anew(self: Any, *arguments: Any, **named: Any) -> Any:
        replaced.clear()
        return launch(self, *arguments, **named)

    def replace_once(function: Any) -> Any:
        module = id(function.__globals__)
        if module in replaced:
            return interpreter._LangPatchScope()  # nothing to restore
        replaced.add(module)
        return replace(function)

    interpreter.GridExecutor.__call__, interpreter._patch_lang = launch_anew, replace_once
