"""PBCNet, for colour variants: two differently coloured views of one product agree as a whole and part by part.

::

    parts = full, top, bottom, left, right, centre of the product, each a crop of both views
    f_p = backbone(part p);  f_0 = mean of f_p;  z = projector(f_0, f_1 ... f_6), by the student for the first
    view and by the teacher for the second
    loss = InfoNCE(z_0 against queue 0) + mean over p of InfoNCE(z_p against queue p)
    after a finite step:  teacher <- EMA of student;  queues <- the keys of all ranks, oldest out

Of PBCNet only an abstract is public (parts of an apparel, colour jitter for colour variants, contrast, a momentum
encoder and a queue are known of it): layout, sizes and weights here are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skill_fast.data.views import GroupBatches, Part, ViewGroup, ViewsConfig
from skill_fast.losses.contrastive import info_nce, unit
from skill_fast.losses.gather import gathered
from skill_fast.models.heads import HeadConfig, ProjectionHead
from skill_fast.models.queue import MemoryQueue
from skill_fast.models.siamese import Siamese
from skill_fast.models.vit import BackboneConfig, across_ranks, build_backbone, check_resolution, prepare_for
from skill_fast.telemetry.collapse import unit_std

PARTS: tuple[Part, ...] = (
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.0, 0.55, 1.0),
    (0.45, 0.0, 1.0, 1.0),
    (0.0, 0.0, 1.0, 0.55),
    (0.0, 0.45, 1.0, 1.0),
    (0.2, 0.2, 0.8, 0.8),
)
"""Full, top, bottom, left, right (the halves overlap by a tenth), centre (60 % of each side)."""


@dataclass(frozen=True)
class PbcnetConfig:
    """The projector, the loss and the queue."""

    hidden: int = 2048
    projection: int = 128
    temperature: float = 0.2
    part_weight: float = 1.0
    part_scale: tuple[float, float] = (0.8, 1.0)
    """Share of a part's area that a crop of it covers."""
    queue: int = 65536
    """Keys kept of the whole and of each part; 16,384 under 200 thousand photographs, at least the global batch."""


class PartNetwork(Siamese):
    """[parts, batch, 3, H, W] to [1 + parts, batch, out]: the projection of the parts' mean, then each part's."""

    def project(self, crops: Tensor) -> Tensor:
        features = torch.stack([self.backbone(part) for part in crops])
        every = torch.cat([features.mean(0, keepdim=True), features])
        return self.projector(every.flatten(0, 1)).unflatten(0, every.shape[:2])


class Pbcnet:
    """Student, teacher that makes the keys, and a queue of keys for the whole and for each part."""

    has_teacher = True
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: PbcnetConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size

        self.student = _network(config, backbone, backbone.drop_path, seed)
        self.teacher = _network(config, backbone, 0.0, seed)
        self.teacher.requires_grad_(False)
        check_resolution(self.student.backbone, backbone.image_size, "part", "--backbone.image-size")
        self.queue = MemoryQueue(config.queue, 1 + len(PARTS), config.projection, seed=seed + 2)
        self._keys: list[Tensor] = []

    def views(self) -> tuple[ViewGroup, ...]:
        """Every part of the first view, then every part of the second, in one group."""
        views = self.views_config
        second = 1 if views.photographs == "two" else 0
        shown = (0,) * len(PARTS) + (second,) * len(PARTS)
        scale = self.config.part_scale
        return (ViewGroup("parts", shown, self.image_size, scale, generic=views.generic, parts=PARTS * 2),)

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
        """crops: "parts" [2 x 6, batch, 3, H, W]."""
        first, second = crops["parts"].chunk(2)
        queries = student(first)
        with torch.no_grad():
            keys = unit(self.teacher.project(second))
        terms = [
            info_nce(q, k, self.queue.rows[:, slot], self.config.temperature)
            for slot, (q, k) in enumerate(zip(queries, keys))
        ]
        whole, parts = terms[0], torch.stack(terms[1:]).mean()
        loss = whole + self.config.part_weight * parts
        self._keys.append(keys.transpose(0, 1))
        return loss, {"loss": loss.detach(), "part_loss": parts.detach(), "projection_std": unit_std(queries[0])}

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


def _network(config: PbcnetConfig, backbone: BackboneConfig, drop_path: float, seed: int) -> PartNetwork:
    body = build_backbone(backbone, drop_path=drop_path, seed=seed)
    sizes = (int(body.num_features), config.hidden, config.projection)  # type: ignore[arg-type]
    return PartNetwork(body, ProjectionHead(sizes, "none", seed=seed + 1))
