"""The trained encoder as a file: teacher.safetensors and model.json, and the way back to a module.

Needs neither DeepSpeed nor DALI: this is what a user of the embeddings imports.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skill_fast.errors import BadData
from skill_fast.models.pooling import pooling_of
from skill_fast.models.vit import BackboneConfig, build_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_JSON_BYTES = 1 << 20


class Encoder(nn.Module):
    """Images to design embeddings: normalise, backbone, and ``pooling`` of its tokens (class, last4, patch_mean).

    (B, 3, H, W) float in [0, 1] -> (B, embed_dim) float32. ``image_size`` is the side the backbone was trained at,
    ``resize`` the shorter side before the centre crop, both in pixels; ``about`` is the content of model.json.
    Raises BadUsage for a pooling that is unknown or that the backbone does not have.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, about: Mapping[str, Any], pooling: str = "class") -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        self._pool, self.embed_dim = pooling_of(pooling, backbone)
        self.about = dict(about)
        self.image_size: int = about["image_size"]
        self.resize: int = about["resize"]
        self.register_buffer("mean", torch.tensor(about["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(about["std"]).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embed_dim"]:
        return self._pool(self.backbone, (images - self.mean) / self.std)

    def fingerprint(self) -> str:
        """sha256 of the backbone's weights by name, hexadecimal: runs of one step and other weights differ."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def describe(
    backbone: BackboneConfig,
    *,
    method: str,
    step: int,
    seed: int,
    dataset: str,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> dict[str, Any]:
    """The content of model.json for a backbone trained at ``backbone.image_size``, on pixels normalised by these."""
    with torch.device("meta"):
        embed_dim = build_backbone(backbone).num_features
    return {
        "format": "skill-encoder",
        "version": 1,
        "backbone": dataclasses.asdict(backbone),
        "image_size": backbone.image_size,
        "resize": resize_of(backbone.image_size),
        "mean": list(mean),
        "std": list(std),
        "embed_dim": embed_dim,
        "method": method,
        "step": step,
        "seed": seed,
        "dataset": dataset,
    }


def resize_of(image_size: int) -> int:
    """Shorter side in pixels before the centre crop of ``image_size``."""
    return round(image_size * 256 / 224)


def save_encoder(run: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write ``weights`` (the backbone's, fp32, timm's names) and ``about`` into the run folder, each atomically."""
    temporary = run / "teacher.safetensors.tmp"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
    temporary.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner can read
    os.replace(temporary, run / "teacher.safetensors")
    temporary = run / "model.json.tmp"
    temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, run / "model.json")


def save_teacher(run: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write the backbone of a teacher's whole state, names "backbone.*"; ranks that hold nothing of it pass {}."""
    backbone = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
    if backbone:
        save_encoder(run, backbone, about)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def load_encoder(run: str | os.PathLike[str], untrained: bool = False, pooling: str = "class") -> Encoder:
    """Load the teacher of a run as a module in eval mode, on the CPU, in fp32.

    pooling: class, last4 (the last four blocks' class tokens side by side) or patch_mean.
    untrained: the same encoder as it was before the first step, drawn again from the run's seed; a control.
    Raises BadData when the folder, model.json or the weights are missing or do not fit each other, BadUsage for a
    pooling that is unknown or that the backbone does not have.
    """
    folder = Path(run)
    about = _read_about(folder)
    config = BackboneConfig(**about["backbone"])
    backbone = build_backbone(config, drop_path=0.0, seed=about["seed"])
    if not untrained:
        path = folder / "teacher.safetensors"
        try:
            backbone.load_state_dict(load_file(path))
        except FileNotFoundError:
            raise BadData(
                f"'{path}' does not exist",
                allowed="a run folder with model.json and teacher.safetensors",
                change="let the run reach its first checkpoint, or name another run",
            ) from None
        except (SafetensorError, RuntimeError) as error:
            raise BadData(f"'{path}' does not hold the weights that model.json describes: {error}") from error
    return Encoder(backbone, about, pooling).eval().requires_grad_(False)


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        raise BadData(
            f"'{folder}' is not a finished run: it has no model.json",
            allowed="a folder that train.py wrote, after its first checkpoint",
            change="check the path; `ls` shows config.yaml, checkpoints/, teacher.safetensors in a run folder",
        )
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadData(f"'{path}' has {path.stat().st_size} bytes", allowed=f"at most {MAX_JSON_BYTES}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        known = {entry.name for entry in dataclasses.fields(BackboneConfig)}
        missing = {"backbone", "image_size", "resize", "mean", "std", "embed_dim", "seed"} - about.keys()
        strange = set(about.get("backbone", ())) - known
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadData(f"'{path}' is not the JSON object it should be: {error}") from error
    if about.get("format") != "skill-encoder" or about.get("version") != 1 or missing or strange:
        raise BadData(
            f"'{path}' is no encoder of this version: format {about.get('format')!r}, version {about.get('version')!r}"
            + (f", missing {sorted(missing)}" if missing else "")
            + (f", unknown {sorted(strange)}" if strange else ""),
            allowed="format 'skill-encoder', version 1",
        )
    return about
