"""The networks of contrastive and predictive methods: a backbone, a projector and, where there is one, a predictor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from skill_fast.models.vit import BackboneConfig, build_backbone


class Siamese(nn.Module):
    """Views to projections, and to predictions where there is a predictor.

    crops [views, batch, 3, H, W] give [views, batch, out]: each view runs by itself, so that batch norm sees one view
    at a time. With a predictor the result is [2, views, batch, out]: projections, then predictions of them.
    A momentum encoder has the same tree, for the average; ``project`` leaves its predictor out.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector
        self.predictor = predictor

    def project(self, crops: Float[Tensor, "views batch 3 height width"]) -> Float[Tensor, "views batch out"]:
        return torch.stack([self.projector(self.backbone(view)) for view in crops])

    def forward(self, crops: Float[Tensor, "views batch 3 height width"]) -> Tensor:
        projections = self.project(crops)
        if self.predictor is None:
            return projections
        return torch.stack([projections, torch.stack([self.predictor(view) for view in projections])])


def siamese_pair(
    backbone: BackboneConfig,
    projector: Callable[[int], nn.Module],
    predictor: Callable[[], nn.Module] | None = None,
    *,
    seed: int,
) -> tuple[Siamese, Siamese]:
    """Student and the module that follows it: equal weights, the latter without gradient and drop path.

    projector: makes the projector for a number of features; predictor: makes a predictor, the same one at every call.
    """
    pair = []
    for drop_path in (None, 0.0):
        body = build_backbone(backbone, drop_path=drop_path, seed=seed)
        head = projector(int(body.num_features))  # type: ignore[arg-type]
        pair.append(Siamese(body, head, predictor() if predictor else None))
    pair[1].requires_grad_(False)
    return pair[0], pair[1]
