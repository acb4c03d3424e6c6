"""Backbones: any timm model by name, vision transformers and CNNs. The one door to timm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import timm
import torch
from timm.layers import convert_sync_batchnorm
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch import distributed as dist

from skill_fast.errors import BadUsage
from skill_fast.models.batch_norm import in_mixed_precision, over_ranks_on_cpu


@dataclass(frozen=True)
class BackboneConfig:
    """Which timm model, and what of it differs from its name; None keeps the name's own value.

    patch_size, embed_dim, depth, num_heads and init concern vision transformers; a CNN is its name.
    """

    name: str = "vit_small_patch16_224"
    image_size: int = 224
    """Side of the global crop in pixels; a vision transformer's positions are interpolated for other sizes."""
    patch_size: int | None = None
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    drop_path: float = 0.1
    """Stochastic depth of the student; the teacher has none."""
    init: Literal["timm", "fan_in"] = "timm"
    """fan_in: linear weights of the blocks at std 1 / sqrt(inputs); timm's 0.02 stalls below a width of about 200."""


def build_backbone(config: BackboneConfig, *, drop_path: float | None = None, seed: int | None = None) -> nn.Module:
    """Build the backbone with fresh weights: an image's class token, or the mean of a CNN's last feature map.

    The module maps (B, 3, H, W) to (B, features); a vision transformer takes every H and W that its patch size divides.
    drop_path: overrides the configuration's, 0 for a teacher. seed: draws the weights, the global generator untouched.
    Raises BadUsage for a name timm does not know, or sizes that do not fit.
    """
    options: dict[str, Any] = {
        key: value
        for key in ("patch_size", "embed_dim", "depth", "num_heads")
        if (value := getattr(config, key)) is not None
    }
    options["drop_path_rate"] = config.drop_path if drop_path is None else drop_path
    _check_known(config.name)
    transformer = config.name in timm.list_models(module="vision_transformer")
    if transformer:
        options |= {"img_size": config.image_size, "global_pool": "token", "dynamic_img_size": True}
    else:
        _check_cnn(config)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        backbone = _create(config.name, options)
        if transformer and config.init == "fan_in":
            fan_in_init(cast(nn.Module, backbone.blocks))
    return backbone


def _check_known(name: str) -> None:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:4])
        raise BadUsage(
            f"backbone '{name}' is not a model that timm knows",
            allowed="timm.list_models()" + (f", for example {near}" if near else ""),
            change="--backbone.name NAME",
        )


def _create(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise BadUsage(
            f"backbone '{name}' can not be built with {dict(options)}: {error}",
            allowed="a width that the number of heads divides, an image size that the patch size divides",
            change="--backbone.image-size, --backbone.patch-size, --backbone.embed-dim, --backbone.num-heads",
        ) from error


def _check_cnn(config: BackboneConfig) -> None:
    """Raise BadUsage where an option of vision transformers is given to another model."""
    given = [key for key in ("patch_size", "embed_dim", "depth", "num_heads") if getattr(config, key) is not None]
    given += ["init"] if config.init != "timm" else []
    if given:
        raise BadUsage(
            f"backbone.{given[0]} for '{config.name}', which is no vision transformer",
            allowed="patch_size, embed_dim, depth, num_heads and init with vision transformers only",
            change=f"leave --backbone.{given[0].replace('_', '-')} out",
        )


def fitted_weights(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """A vision transformer's weights with positions and patches interpolated to the backbone's; a CNN's as are."""
    if not isinstance(backbone, VisionTransformer) or "pos_embed" not in weights:
        return dict(weights)
    return checkpoint_filter_fn(dict(weights), backbone)


def fan_in_init(module: nn.Module) -> None:
    """Draw every linear weight below ``module`` from N(0, 1 / inputs), biases 0.

    Keeps the variance of activations through layers of any width, where a fixed std of 0.02 fits widths near 2,500.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def attend_plainly(backbone: nn.Module) -> None:
    """Let the blocks compute softmax(q k / sqrt(d)) v as three operations instead of one fused call.

    For CPUs: with torch 2.15's fused attention in bf16 a step of the demo's encoder took 243 ms on one core, 128 ms
    of them in its backward; without it 110 ms. On a GPU the fused call stays.
    """
    for module in backbone.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010 - timm's attribute, unknown to nn.Module


def prepare_for(module: nn.Module, device: torch.device) -> nn.Module:
    """Choose how blocks compute their attention on the device; returns the module."""
    if device.type == "cpu":
        attend_plainly(module)
    return module


def is_vision_transformer(backbone: nn.Module) -> bool:
    """Whether it is timm's plain vision transformer, with tokens to choose from."""
    return isinstance(backbone, VisionTransformer)


def patch_size_of(backbone: nn.Module) -> int:
    """Side in pixels of the backbone's patches; 1 for a CNN, which takes every size."""
    patches = getattr(backbone, "patch_embed", None)
    return int(patches.patch_size[0]) if patches is not None else 1


def across_ranks(module: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm below ``module`` take its statistics over the batches of all ranks; returns the module.

    On a GPU torch's SyncBatchNorm, on a CPU ``RankBatchNorm``, with one rank the plain norms, for mixed precision.
    Raises BadUsage on several CPU ranks for a norm that is fused with its activation.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return in_mixed_precision(module)
    return convert_sync_batchnorm(module) if device.type == "cuda" else over_ranks_on_cpu(module)


def check_resolution(backbone: nn.Module, size: int, name: str, option: str) -> None:
    """Raise BadUsage unless the patch size divides a view group's crop size, which ``option`` sets."""
    patch = patch_size_of(backbone)
    if size % patch:
        lower, upper = size // patch * patch, (size // patch + 1) * patch
        raise BadUsage(
            f"{name} crops of {size} pixels can not be cut into patches of {patch}",
            allowed=f"multiples of {patch}, for example {f'{lower} or ' if lower else ''}{upper}",
            change=f"{option} {upper}",
        )
