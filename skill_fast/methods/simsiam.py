"""SimSiam: each view's prediction meets the other view's projection, which gets no gradient.

::

    z = projector(student(globals)), p = predictor(z)
    loss = -(cos(p_1, stop_gradient(z_2)) + cos(p_2, stop_gradient(z_1))) / 2
    the predictor's learning rate stays at its peak

Source: SimSiam (Chen and He 2021), section 3, algorithm 1; the constant rate: section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig, global_crops
from skill_fast.losses.similarity import negative_cosine
from skill_fast.models.heads import HeadConfig, ProjectionHead
from skill_fast.models.siamese import siamese_pair
from skill_fast.models.vit import BackboneConfig, across_ranks, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std


@dataclass(frozen=True)
class SimsiamConfig:
    """The projector has three layers of ``projection``, the predictor one hidden layer of ``prediction_hidden``."""

    projection: int = 2048
    prediction_hidden: int = 512


class Simsiam:
    """Student alone; the module that follows it is its copy, for the exported encoder."""

    has_teacher = False
    constant_lr: tuple[str, ...] = ("predictor",)

    def __init__(
        self, config: SimsiamConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        def projector(features: int) -> ProjectionHead:
            return ProjectionHead((features, *[config.projection] * 3), "all", seed=seed + 1)

        def predictor() -> ProjectionHead:
            sizes = (config.projection, config.prediction_hidden, config.projection)
            return ProjectionHead(sizes, "hidden", seed=seed + 2)

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
        projections, predictions = student(global_crops(crops))
        loss = (negative_cosine(predictions[0], projections[1]) + negative_cosine(predictions[1], projections[0])) / 2
        return loss, {"loss": loss.detach(), "projection_std": unit_std(projections[0])}

    def reduce(self) -> None:
        """Nothing is left to reduce."""

    def commit(self, finite: Tensor) -> None:
        """There is no state."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """There is no state."""
