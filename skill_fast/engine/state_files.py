"""One rank's loop state as JSON and safetensors: nested dictionaries of plain values and tensors, no pickle."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

TENSOR = "__tensor__"


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device; through a plain file, so that a full disk is an OSError with its path."""
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors on the CPU by name."""
    return load(path.read_bytes())


def save_state(folder: Path, rank: int, state: Mapping[str, Any]) -> None:
    """Write ``rank-N.json`` and ``rank-N.safetensors``; tuples come back as lists, numpy scalars as numbers.

    Raises TypeError that names the key of a value which is neither plain nor a tensor.
    """
    tensors: dict[str, Tensor] = {}
    plain = _split(state, "", tensors)
    save_tensors(folder / f"rank-{rank:05d}.safetensors", tensors)
    (folder / f"rank-{rank:05d}.json").write_text(json.dumps(plain), encoding="utf-8")


def load_state(folder: Path, rank: int) -> dict[str, Any]:
    """What ``save_state`` was given, tensors on the CPU."""
    tensors = load_tensors(folder / f"rank-{rank:05d}.safetensors")
    return _join(json.loads((folder / f"rank-{rank:05d}.json").read_text(encoding="utf-8")), tensors)


def random_state(device: torch.device) -> dict[str, Any]:
    """The generators that code outside this project may draw from: torch on the CPU and the GPU, numpy, python."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "kind": kind,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "rest": [int(position), int(has_gauss), float(cached)],
        },
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random(state: Mapping[str, Any]) -> None:
    """Put the generators back where ``random_state`` found them."""
    torch.set_rng_state(state["torch"])
    numpy = state["numpy"]
    np.random.set_state((numpy["kind"], numpy["keys"].numpy().astype(np.uint32), *numpy["rest"]))
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _split(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[where] = value
        return {TENSOR: where}
    if isinstance(value, Mapping):
        return {
            str(key): _split(inner, f"{where}.{key}" if where else str(key), tensors) for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_split(inner, f"{where}.{place}", tensors) for place, inner in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"checkpoint state '{where}' is a {type(value).__name__}; plain values and tensors can be kept")


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]]
        return {key: _join(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list):
        return [_join(inner, tensors) for inner in value]
    return value
