"""MoCo v2: a query finds its key among a queue of earlier keys, which a slow average of the student makes.

::

    q = projector(student(first global)),  k = projector(teacher(second global))
    loss = InfoNCE of q against k and the queue, temperature 0.2
    after a finite step:  teacher <- EMA of student;  queue <- the keys of all ranks, oldest out

Source: MoCo (He et al. 2020), algorithm 1; MoCo v2 (Chen et al. 2020): MLP and augmentation. Batch norms of a CNN take
their statistics over all ranks, where the authors shuffle samples between GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig, global_crops
from skill_fast.losses.contrastive import info_nce, unit
from skill_fast.losses.gather import gathered
from skill_fast.models.heads import HeadConfig, ProjectionHead
from skill_fast.models.queue import MemoryQueue
from skill_fast.models.siamese import siamese_pair
from skill_fast.models.vit import BackboneConfig, across_ranks, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std


@dataclass(frozen=True)
class Mocov2Config:
    """The projector, the loss and the queue."""

    hidden: int = 2048
    projection: int = 128
    temperature: float = 0.2
    queue: int = 65536
    """Keys kept; 16,384 for catalogues under 200 thousand photographs, at least the global batch."""


class Mocov2:
    """Student, teacher that makes the keys, and the queue of keys."""

    has_teacher = True
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: Mocov2Config, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        def projector(features: int) -> ProjectionHead:
            return ProjectionHead((features, config.hidden, config.projection), "none", seed=seed + 1)

        self.student, self.teacher = siamese_pair(backbone, projector, seed=seed)
        check_resolution(self.student.backbone, backbone.image_size, "global", "--backbone.image-size")
        self.queue = MemoryQueue(config.queue, config.projection, seed=seed + 2)
        self._keys: list[Tensor] = []

    def views(self) -> tuple[ViewGroup, ...]:
        """Two global crops, no local ones."""
        return self.views_config.global_groups(self.image_size)

    def batches(self) -> GroupBatches | None:
        """Photographs one by one."""
        return None

    def to(self, device: torch.device) -> None:
        """Move the queue; batch norms over all ranks, attention for the device."""
        self.queue.to(device)
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
        queries = student(both[:1])[0]
        with torch.no_grad():
            keys = unit(self.teacher.project(both[1:])[0])
        loss = info_nce(queries, keys, self.queue.rows, self.config.temperature)
        self._keys.append(keys)
        return loss, {"loss": loss.detach(), "projection_std": unit_std(queries)}

    def reduce(self) -> None:
        """Gather this step's keys, micro-batch by micro-batch and rank by rank: every queue stays the same."""
        self._keys = [gathered(keys) for keys in self._keys]

    def commit(self, finite: Tensor) -> None:
        """Put the keys into the queue if the step was finite; forget them either way."""
        for keys in self._keys:
            self.queue.put(keys, finite)
        self._keys = []

    def state_dict(self) -> dict[str, Tensor]:
        return {f"queue.{name}": tensor for name, tensor in self.queue.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.queue.load_state_dict({name.removeprefix("queue."): tensor for name, tensor in state.items()})
