"""DINO: self-distillation between the crops of one photograph.

::

    globals, locals = 2 large and c small crops of x'
    q = softmax((teacher(globals) - center) / teacher_temp);  p = softmax(student(globals, locals) / student_temp)
    loss = mean cross-entropy of q and p over pairs of different views
    after a finite step:  teacher <- EMA of student,  center <- EMA of the teacher's mean logits

Source: DINO (Caron et al. 2021), section 3.1 and algorithm 1. Unlike ``skill`` both global crops show one photograph.
The augmentation of ``dino_vit_small`` is DINO's own, with no recipe of the product type; ``dino_demo`` has that of all
demos, so that methods can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from skill_fast.data.views import GroupBatches, ViewGroup, ViewsConfig, global_crops
from skill_fast.kernels import center_update, distillation_loss
from skill_fast.models.heads import DistillationHead, HeadConfig, MultiCrop
from skill_fast.models.vit import BackboneConfig, across_ranks, build_backbone, check_resolution, prepare_for


@dataclass(frozen=True)
class DinoConfig:
    """The loss."""

    student_temp: float = 0.1
    center_momentum: float = 0.9


class Dino:
    """The method's networks, loss and state; ``student`` belongs to the engine, ``teacher`` follows it."""

    has_teacher = True
    constant_lr: tuple[str, ...] = ()

    def __init__(
        self, config: DinoConfig, backbone: BackboneConfig, head: HeadConfig, views: ViewsConfig, *, seed: int
    ) -> None:
        self.config, self.views_config, self.image_size = config, views, backbone.image_size
        self.student = MultiCrop(build_backbone(backbone, seed=seed), _head(backbone, head, seed))
        check_resolution(self.student.backbone, backbone.image_size, "global", "--backbone.image-size")
        check_resolution(self.student.backbone, views.local_size, "local", "--views.local-size")
        self.teacher = MultiCrop(build_backbone(backbone, drop_path=0.0, seed=seed), copy.deepcopy(self.student.head))
        self.teacher.requires_grad_(False)
        self.center = torch.zeros(head.prototypes)
        self._teacher_sum: Tensor | None = None
        self._rows = 0
        self._reduction: dist.Work | None = None

    def views(self) -> tuple[ViewGroup, ...]:
        """Two global crops and the local ones, all of one photograph."""
        return self.views_config.global_groups(self.image_size, one_photograph=True) + self.views_config.local_groups()

    def batches(self) -> GroupBatches | None:
        """Photographs one by one."""
        return None

    def to(self, device: torch.device) -> None:
        """Move what the engine does not own, and choose the attention for the device."""
        self.center = self.center.to(device)
        for network in (self.student, self.teacher):
            prepare_for(across_ranks(network, device), device)

    def loss(
        self,
        student: Callable[..., Tensor],
        crops: Mapping[str, Tensor],
        teacher_temp: float,
        labels: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's loss and, by name, device tensors to log.

        crops: "global" [2, batch, 3, H, W], "local" [c, batch, 3, h, w], in the student's dtype. The teacher's column
        sums add up over the micro-batches of a step.
        """
        both = global_crops(crops)
        student_logits = student(both, *([crops["local"]] if "local" in crops else []))
        with torch.no_grad():
            teacher_logits = self.teacher(both)
        output = distillation_loss(student_logits, teacher_logits, self.center, self.config.student_temp, teacher_temp)
        self._collect(output.teacher_sum, teacher_logits.shape[0] * teacher_logits.shape[1])
        return output.loss, {
            "loss": output.loss.detach(),
            "teacher_entropy": output.teacher_entropy.detach(),
            "kl": output.kl,
            "center_norm": self.center.norm(),
        }

    def _collect(self, teacher_sum: Tensor, rows: int) -> None:
        self._teacher_sum = teacher_sum if self._teacher_sum is None else self._teacher_sum + teacher_sum
        self._rows += rows

    def reduce(self) -> None:
        """Start summing the teacher's columns over the ranks, once a step; ``commit`` waits for it."""
        if dist.is_initialized() and dist.get_world_size() > 1:
            self._reduction = dist.all_reduce(cast(Tensor, self._teacher_sum), async_op=True)

    def commit(self, finite: Tensor) -> None:
        """Move the center if the step was finite; forget this step's sums either way."""
        if self._reduction is not None:
            self._reduction.wait()
        if self._teacher_sum is not None:
            rows = self._rows * (dist.get_world_size() if self._reduction is not None else 1)
            moved = center_update(self.center, self._teacher_sum, rows, self.config.center_momentum)
            # An infinite logit of the teacher need not reach the loss; in the center it would stay.
            self.center = torch.where(finite & moved.isfinite().all(), moved, self.center)
        self._teacher_sum, self._rows, self._reduction = None, 0, None

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides student and teacher."""
        return {"center": self.center}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.center = state["center"].to(self.center.device)


def _head(backbone: BackboneConfig, head: HeadConfig, seed: int) -> nn.Module:
    with torch.device("meta"):
        dim = build_backbone(backbone).num_features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return DistillationHead(int(dim), head)  # type: ignore[arg-type]
