"""From a backbone's tokens to one embedding a photograph: class token, last blocks' class tokens, mean of patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from skill_fast.errors import BadUsage
from skill_fast.models.vit import is_vision_transformer

LAST_BLOCKS = 4
"""As many as DINO's linear evaluation of ViT-S concatenates (Caron et al. 2021, appendix)."""

Pooling = Callable[[Any, Float[Tensor, "batch 3 height width"]], Float[Tensor, "batch features"]]


def class_token(backbone: Any, images: Tensor) -> Tensor:
    """The normalised class token of the last block; a CNN's own pooled output."""
    return backbone(images)


def last4(backbone: Any, images: Tensor) -> Tensor:
    """The class tokens of the last four blocks, oldest first, each through the final norm: 4 x width values."""
    layers = backbone.forward_intermediates(
        images, LAST_BLOCKS, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    return torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)


def patch_mean(backbone: Any, images: Tensor) -> Tensor:
    """The mean of the last block's patch tokens after the final norm."""
    return backbone.forward_features(images)[:, backbone.num_prefix_tokens :].mean(dim=1)


POOLINGS: dict[str, Pooling] = {"class": class_token, "last4": last4, "patch_mean": patch_mean}


def pooling_of(name: str, backbone: nn.Module) -> tuple[Pooling, int]:
    """The pooling of that name and the number of values that it gives for ``backbone``.

    Raises BadUsage for an unknown name, for anything but "class" with a CNN, and for last4 with fewer than four blocks.
    """
    if name not in POOLINGS:
        raise BadUsage(f"pooling '{name}' is not known", allowed=", ".join(POOLINGS), change="--pooling NAME")
    width = int(cast(int, backbone.num_features))
    if name == "class":
        return POOLINGS[name], width
    if not is_vision_transformer(backbone):
        raise BadUsage(
            f"pooling '{name}' for a {type(backbone).__name__}, which has no class token and no patch tokens",
            allowed="class: the pooled output that the network was trained with",
            change="--pooling class",
        )
    blocks = len(cast(nn.Sequential, backbone.blocks))
    if name == "last4" and blocks < LAST_BLOCKS:
        raise BadUsage(
            f"pooling 'last4' for a vision transformer of {blocks} blocks",
            allowed=f"backbones of {LAST_BLOCKS} blocks or more; class, patch_mean for this one",
            change="--pooling class",
        )
    return POOLINGS[name], width * (LAST_BLOCKS if name == "last4" else 1)
