"""Weights of other people's encoders in, and ours out: timm's layout and that of the official DINO repository.

Names of a vision transformer's weights are the same in both (timm took them over): ``cls_token``, ``pos_embed``,
``patch_embed.proj``, ``blocks.N.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}``, ``norm``. They differ in what is
wrapped around::

    timm           {name: tensor}, a classifier as "head.*" or "fc.*"
    DINO           {"student": ..., "teacher": {"backbone.NAME": tensor, "head.*": ...}, ...}, in students also
                   "module.backbone.NAME"; the backbone alone as {name: tensor}
    a run's own    teacher.safetensors, {name: tensor}
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skill_fast.errors import BadData, BadUsage, exit_with
from skill_fast.models.encoder import load_encoder
from skill_fast.models.vit import fitted_weights

WRAPPERS = ("teacher", "state_dict", "model")
"""Keys under which a checkpoint holds its encoder, in the order they are looked for."""
PREFIXES = ("module.", "backbone.")
HEADS = ("head.", "head_dist.", "fc.", "classifier.")
FORMATS = ("timm", "dino")
NO_PICKLE = (KeyError, IndexError, ValueError, AttributeError, TypeError)
"""What torch's reader raises of bytes that are no pickle."""
OFFICIAL = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)"
)
"""Weights of the official DINO repository's vision transformer."""


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A backbone's weights by timm's names, from a safetensors or a torch file of any of the layouts above.

    Torch files are loaded with ``weights_only=True``: no code of theirs runs. Raises BadData for what is neither.
    """
    file = Path(path)
    try:
        held: Any = load_file(file) if file.suffix == ".safetensors" else _load_torch(file)
    except FileNotFoundError:
        raise BadData(f"'{file}' does not exist", change="--init-from FILE") from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, *NO_PICKLE) as error:
        raise BadData(
            f"'{file}' can not be read as weights: {_reason(error)}",
            allowed="a .safetensors file, or a torch file that holds nothing but tensors and plain values",
            change="convert it to safetensors, or name another --init-from",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
            break
    tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)} if _named(held) else {}
    if not tensors:
        raise BadData(f"'{file}' holds no tensors by name", allowed="timm's or DINO's layout", change="--init-from")
    return _backbone_of(tensors)


def load_backbone(backbone: nn.Module, path: str | os.PathLike[str]) -> None:
    """Put a file's weights into a backbone; positions of another image size are interpolated, as timm does.

    Raises BadData where names or shapes do not fit, with the first that differ.
    """
    weights = fitted_weights(read_weights(path), backbone)
    own = backbone.state_dict()
    missing, strange = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} {list(weights[name].shape)} for {list(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    ]
    if missing or strange or shapes:
        said = [f"lacks {', '.join(missing[:3])}"] if missing else []
        said += [f"has also {', '.join(strange[:3])}"] if strange else []
        said += [f"has {', '.join(shapes[:3])}"] if shapes else []
        raise BadData(
            f"'{path}' does not hold this backbone's weights: it {'; it '.join(said)}",
            allowed="weights of the model that --backbone.name says",
            change="--backbone.name, --backbone.patch-size ..., or --init-from",
        )
    if spoilt := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise BadData(
            f"'{path}' has values that are not finite in {', '.join(spoilt[:3])}",
            allowed="weights of a healthy run",
            change="another --init-from",
        )
    backbone.load_state_dict(weights)


def export(run: str | os.PathLike[str], out: str | os.PathLike[str], format: str) -> None:
    """Write a run's encoder for timm (safetensors) or for DINO's tools (a torch file, keys "teacher": "backbone.*").

    ``timm.create_model(NAME, checkpoint_path=OUT, num_classes=0, ...)`` and DINO's ``eval_knn.py
    --pretrained_weights OUT --checkpoint_key teacher`` take them. Raises BadUsage where OUT can not be a file, and for
    DINO's layout of a transformer that is not its own: its tools pass over weights that they do not know.
    """
    weights = {name: tensor.contiguous() for name, tensor in load_encoder(run).backbone.state_dict().items()}
    strange = [name for name in weights if not OFFICIAL.fullmatch(name)] if "cls_token" in weights else []
    if format == "dino" and strange:
        raise BadUsage(
            f"DINO's vision transformer has no {', '.join(strange[:3])}",
            allowed="--format timm, or --format dino of a plain ViT or a CNN",
            change="--format timm",
        )
    target = Path(out)
    if target.is_dir() or not target.parent.is_dir():
        raise BadUsage(
            f"'{target}' is a folder" if target.is_dir() else f"the folder '{target.parent}' does not exist",
            allowed="a file's path in a folder that exists",
            change="OUT",
        )
    beside = target.with_name(target.name + ".tmp")
    if format == "timm":
        save_file(weights, beside)
    else:
        torch.save({"teacher": {f"backbone.{name}": tensor for name, tensor in weights.items()}}, beside)
    os.replace(beside, target)


def _load_torch(file: Path) -> Any:
    # DINO's full checkpoints hold their command line, ``args``; a Namespace is attributes and no code.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """An error's first line, and of torch's refusal the name of what was refused."""
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds a '{refused.group(1)}', which could run code"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _named(held: Any) -> bool:
    return isinstance(held, Mapping) and all(isinstance(name, str) for name in held)


def _backbone_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without wrappers' prefixes; projection heads and classifiers are left out."""
    found = {}
    wrapped = any("backbone." in name for name in tensors)
    for name, tensor in tensors.items():
        inner = name.removeprefix(PREFIXES[0])
        if wrapped and not inner.startswith(PREFIXES[1]):
            continue
        inner = inner.removeprefix(PREFIXES[1])
        if not inner.startswith(HEADS):
            found[inner] = tensor
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-export RUN OUT --format timm|dino``; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-export", description="Write a run's encoder for other tools."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder with model.json and teacher.safetensors")
    parser.add_argument("out", metavar="OUT", type=Path, help=".safetensors for timm, .pth for dino")
    parser.add_argument("--format", choices=FORMATS, default="timm")
    options = parser.parse_args(arguments)
    export(options.run, options.out, options.format)
    print(f"{options.out}: {options.format} layout")
