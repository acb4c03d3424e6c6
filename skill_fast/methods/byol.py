"""BYOL: the student predicts what a slower average of itself says of another view.

::

    z' = teacher's projections of both globals;  p = predictor(projector(student(globals)))
    loss = (|p_1 - z'_2|^2 + |p_2 - z'_1|^2) / 2, all at norm 1: mean of 2 - 2 cos
    after a finite step:  teacher <- EMA of student

Source: BYOL (Grill et al. 2020), section 3; the paper sums both directions, here they are averaged (half the loss and
the gradient). The teacher carries an average of the predictor too, which nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig, global_crops
from skill_fast.losses.similarity import byol_distance
from skill_fast.models.heads import HeadConfig, ProjectionHead
from skill_fast.models.siamese import siamese_pair
from skill_fast.models.vit import BackboneConfig, across_ranks, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std


@dataclass(frozen=True)
class ByolConfig:
    """Projector and predictor have the same sizes."""

    hidden: int = 4096
    projection: int = 256


class Byol:
    """Student with projector and predictor; the teacher follows it and predicts nothing."""

    has_teacher = True
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: ByolConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        def projector(features: int) -> ProjectionHead:
            return ProjectionHead((features, config.hidden, config.projection), "hidden", seed=seed + 1)

        def predictor() -> ProjectionHead:
            return ProjectionHead((config.projection, config.hidden, config.projection), "hidden", seed=seed + 2)

        self.student, self.teacher = siamese_pair(backbone, projector, predictor, seed=seed)
        check_resolution(self.student.backbone, backbone.image_size, "global", "--backbone.image-size")

    def views(self) -> tuple[ViewGroup, ...]:
        """Two global crops, no local ones."""
        return self.views_config.global_groups(self.image_size)

    def batches(self) -> GroupBatches | None:
        """Photographs one by one."""
        return None

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
        """crops: "global" [2, batch, 3, H, W]."""
        both = global_crops(crops)
        projections, predictions = student(both)
        with torch.no_grad():
            targets = self.teacher.project(both)
        loss = (byol_distance(predictions[0], targets[1]) + byol_distance(predictions[1], targets[0])) / 2
        return loss, {"loss": loss.detach(), "projection_std": unit_std(projections[0])}

    def reduce(self) -> None:
        """Nothing is left to reduce."""

    def commit(self, finite: Tensor) -> None:
        """There is no state."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """There is no state."""
