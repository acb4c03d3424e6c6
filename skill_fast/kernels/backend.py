"""Which implementation of the kernels runs: chosen once for a process, told once, never changed silently."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from skill_fast.errors import BadUsage

BACKENDS = ("auto", "fused", "reference")
_chosen: str | None = None


def choose(backend: str) -> None:
    """Fix the backend of this process: before the first step, from the configuration.

    auto: ``fused`` for tensors on a GPU where Triton can be imported, else ``reference``; counts until a choice.
    fused: the Triton kernels, on a CPU only in Triton's interpreter (for tests). reference: plain torch.
    Raises BadUsage for another name, and when this process has chosen otherwise before.
    """
    global _chosen
    if backend not in BACKENDS:
        raise BadUsage(f"backend is '{backend}'", allowed=", ".join(BACKENDS), change="the backend of the kernels")
    if _chosen not in (None, backend):
        raise BadUsage(
            f"backend is '{backend}', but this process runs with '{_chosen}'",
            allowed="one choice for a process",
            change="start another process",
        )
    _chosen = backend


def implementation(package: str, like: Tensor) -> ModuleType:
    """``package.fused`` or ``package.reference``, by the backend and by where ``like`` is; called by each op.py."""
    return import_module(f"{package}.{resolve(like.device)[0]}")


def describe(device: torch.device | str) -> str:
    """One line for the log: what runs for tensors on ``device``, and why."""
    name, reason = resolve(torch.device(device))
    return f"kernels: {name} ({reason})"


def resolve(device: torch.device) -> tuple[str, str]:
    """("fused" or "reference", the reason). Raises BadUsage where ``fused`` was asked for and can not run."""
    backend = _chosen or "auto"
    triton, interpreted = _triton(), _interpreted()
    if backend == "reference":
        return "reference", "as chosen"
    if backend == "auto":
        if device.type != "cuda":
            return "reference", f"auto: tensors on {device.type}"
        return ("fused", f"auto: {triton}") if triton.startswith("Triton ") else ("reference", f"auto: {triton}")
    if not triton.startswith("Triton "):
        raise BadUsage(
            f"backend 'fused': {triton}",
            allowed="fused where Triton can be imported",
            change="backend auto or reference",
        )
    if device.type != "cuda" and not interpreted:
        raise BadUsage(
            f"backend 'fused' for tensors on {device.type}",
            allowed="tensors on a GPU; on a CPU only Triton's interpreter, with TRITON_INTERPRET=1 set from the start",
            change="backend auto or reference",
        )
    return "fused", f"as chosen: {triton}" + (", interpreted" if interpreted else "")


@cache
def _triton() -> str:
    """The name and version of Triton, or why there is none."""
    try:
        return f"Triton {import_module('triton').__version__}"
    except ImportError as error:
        return f"no Triton: {error}"


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes")
