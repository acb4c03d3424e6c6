"""Where embeddings are computed: the device that was asked for, or the one that is there."""

from __future__ import annotations

import os

import torch

from skill_fast.errors import BadUsage


def choose_device(name: str | None = None) -> torch.device:
    """``name``, or the GPU where there is one; raises BadUsage for what this machine does not have."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadUsage(f"device '{name}' is not known", allowed="cpu, cuda, cuda:N", change="--device") from None
    if device.type not in ("cpu", "cuda"):
        raise BadUsage(f"device '{name}' can not be used here", allowed="cpu, cuda, cuda:N", change="--device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadUsage(
            f"device '{name}' does not exist: this machine shows {torch.cuda.device_count()} GPUs",
            allowed="cpu, or a GPU that is there",
            change="--device cpu",
        )
    return device


def rank_device(name: str | None) -> torch.device:
    """``choose_device``, and for "cuda" without a number the GPU of this rank."""
    if os.environ.get("LOCAL_RANK") and torch.cuda.is_available() and name in (None, "cuda"):
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return choose_device(name)
