"""Projection heads: from the class token to what a loss compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from skill_fast.models.speed import PackedBlock, packed_features
from skill_fast.models.vit import fan_in_init


@dataclass(frozen=True)
class HeadConfig:
    """The distillation head's sizes (DINO, appendix C)."""

    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256
    init: Literal["dino", "fan_in"] = "dino"


class DistillationHead(nn.Module):
    """MLP of three layers, L2 norm, then cosine similarity to the prototypes.

    ::

        z = MLP(x)                          dim -> hidden -> hidden -> bottleneck, GELU between, no batch norm
        logits = normalize(z) @ normalize(W).T

    The rows of W are used at norm 1: DINO's weight-normalised layer with its gain fixed. Source: DINO, section 3.1.
    """

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.last_layer = nn.Linear(config.bottleneck, config.prototypes, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if config.init == "fan_in":
            fan_in_init(self)

    def forward(self, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows prototypes"]:
        # eps against 0 / 0: 1e-6 survives fp16, the default 1e-12 rounds to nothing there.
        projected = F.normalize(self.mlp(features), dim=-1, eps=1e-6)
        return F.linear(projected, F.normalize(self.last_layer.weight, dim=-1, eps=1e-6))


class ProjectionHead(nn.Sequential):
    """MLP of linear layers with ReLU between: projectors and predictors of the contrastive methods.

    sizes: (in, hidden ..., out). norm: batch norm after the "hidden" layers, after "all" (the last one without gain and
    bias, as SimSiam) or after "none". Layers in front of a batch norm have no bias: it would be subtracted again.
    Weights are drawn as torch draws them for linear layers, seeded.
    """

    def __init__(self, sizes: Sequence[int], norm: Literal["none", "hidden", "all"], *, seed: int) -> None:
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for place, (inputs, outputs) in enumerate(pairwise(sizes), start=2):
                last = place == len(sizes)
                normed = norm == "all" or (norm == "hidden" and not last)
                layers.append(nn.Linear(inputs, outputs, bias=not normed))
                layers += [nn.BatchNorm1d(outputs, affine=not last)] if normed else []
                layers += [] if last else [nn.ReLU()]
        super().__init__(*layers)


class MultiCrop(nn.Module):
    """A backbone and a head over crops of several resolutions.

    One backbone pass per resolution, then the head once over all views: crops [views_i, batch, 3, H_i, W_i] give logits
    [sum of views_i, batch, prototypes], in the order given.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.packed: PackedBlock | None = None
        """What carries out a block where its layers see the crops of all resolutions at once (``speed.prepare``)."""

    def forward(self, *crops: Float[Tensor, "_ batch 3 _ _"]) -> Float[Tensor, "all_views batch prototypes"]:
        batch = crops[0].shape[1]
        groups = [group.flatten(0, 1) for group in crops]
        if self.packed is not None:
            features = packed_features(self.backbone, groups, self.packed)
        else:
            features = torch.cat([self.backbone(group) for group in groups])
        return self.head(features).unflatten(0, (-1, batch))
