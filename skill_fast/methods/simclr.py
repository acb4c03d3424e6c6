"""SimCLR: two views of one sample agree, and differ from every other view in the batch of all ranks.

::

    z = projector(student(globals))          2 x batch rows, a batch norm in the projector
    loss = NT-Xent over all ranks' rows, temperature 0.1

Source: SimCLR (Chen et al. 2020), section 2. Negatives are those of one micro-batch: with gradient accumulation there
are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig, global_crops
from skill_fast.losses.contrastive import nt_xent
from skill_fast.losses.gather import gathered, place_of_rank
from skill_fast.models.heads import HeadConfig, ProjectionHead
from skill_fast.models.siamese import siamese_pair
from skill_fast.models.vit import BackboneConfig, across_ranks, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std


@dataclass(frozen=True)
class SimclrConfig:
    """The projector and the loss."""

    hidden: int = 2048
    projection: int = 128
    temperature: float = 0.1


class Simclr:
    """Student alone; the module that follows it is its copy, for the exported encoder."""

    has_teacher = False
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: SimclrConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        def projector(features: int) -> ProjectionHead:
            return ProjectionHead((features, config.hidden, config.projection), "hidden", seed=seed + 1)

        self.student, self.teacher = siamese_pair(backbone, projector, seed=seed)
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
        first, second = student(global_crops(crops))
        loss = nt_xent(
            first,
            second,
            self.config.temperature,
            gathered(first),
            gathered(second),
            place=place_of_rank(first.shape[0]),
        )
        return loss, {"loss": loss.detach(), "projection_std": unit_std(first)}

    def reduce(self) -> None:
        """Nothing is left to reduce."""

    def commit(self, finite: Tensor) -> None:
        """There is no state."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """There is no state."""
