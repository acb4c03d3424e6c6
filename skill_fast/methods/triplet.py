"""The supervised triplet model of colour variants: needs a catalogue with variant groups and colours.

::

    batch = P variant groups x K products of each, one photograph and one view of each
    positive: same group, another colour;  negative: another group of the same product type
    loss = mean over semi-hard triplets of max(0, d(a, p) - d(a, n) + 0.2), d squared L2 of unit embeddings

The papers name a triplet network on manual labels; margin, mining and batches are this project's. Triplets are mined
among the rows of all ranks; every rank holds (rows)^3 distances, so global batches of some hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig
from skill_fast.losses.gather import gathered
from skill_fast.losses.triplet import triplet_loss
from skill_fast.models.heads import HeadConfig
from skill_fast.models.siamese import siamese_pair
from skill_fast.models.vit import BackboneConfig, across_ranks, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std


@dataclass(frozen=True)
class TripletConfig:
    """The loss and the batches."""

    margin: float = 0.2
    products: int = 2
    """K: products of a variant group in a batch; the global batch over K is the number of groups."""


class Triplet:
    """Student alone; the module that follows it is its copy, for the exported encoder."""

    has_teacher = False
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: TripletConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        self.student, self.teacher = siamese_pair(backbone, lambda features: nn.Identity(), seed=seed)
        check_resolution(self.student.backbone, backbone.image_size, "global", "--backbone.image-size")

    def views(self) -> tuple[ViewGroup, ...]:
        """One global crop."""
        views = self.views_config
        return (ViewGroup("global", (0,), self.image_size, views.global_scale, generic=views.generic),)

    def batches(self) -> GroupBatches | None:
        """P variant groups x K products."""
        return GroupBatches(self.config.products)

    def to(self, device: torch.device) -> None:
        """Batch norms over all ranks, attention for the device."""
        for network in (self.student, self.teacher):
            prepare_for(across_ranks(network, device), device)

    def loss(
        self,
        student: Callable[..., Tensor],
        crops: Mapping[str, Tensor],
        teacher_temp: float,
        labels: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """crops: "global" [1, batch, 3, H, W]; labels: "group", "color", "type" [batch] int64. Raises ValueError
        without labels: the loader must make batches of groups."""
        if not labels:
            raise ValueError("the triplet loss needs labels: make the loader with batches=method.batches()")
        rows = gathered(student(crops["global"])[0])
        group, color, kind = (gathered(labels[name]) for name in ("group", "color", "type"))
        same = group[:, None] == group
        triplets = triplet_loss(
            rows, same & (color[:, None] != color), ~same & (kind[:, None] == kind), self.config.margin
        )
        return triplets.loss, {
            "loss": triplets.loss.detach(),
            "triplets": triplets.mined.float(),
            "projection_std": unit_std(rows),
        }

    def reduce(self) -> None:
        """Nothing is left to reduce."""

    def commit(self, finite: Tensor) -> None:
        """There is no state."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """There is no state."""
