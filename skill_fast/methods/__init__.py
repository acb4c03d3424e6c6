"""Methods by name, each one flat file, and what the loop asks of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from skill_fast.data.views import GroupBatches, ViewGroup
from skill_fast.methods.byol import Byol
from skill_fast.methods.dino import Dino
from skill_fast.methods.mocov2 import Mocov2
from skill_fast.methods.pbcnet import Pbcnet
from skill_fast.methods.simclr import Simclr
from skill_fast.methods.simsiam import Simsiam
from skill_fast.methods.skill import Skill
from skill_fast.methods.triplet import Triplet


class Method(Protocol):
    """What ``engine.loop.train`` calls, in the order of the calls; there is nothing to inherit from."""

    has_teacher: bool
    """Whether ``teacher`` averages the student; else it is the student's copy, kept for the exported encoder."""
    constant_lr: tuple[str, ...]
    """Names of the student's modules whose learning rate stays at its peak."""

    @property
    def student(self) -> nn.Module:
        """Trained by the engine."""

    @property
    def teacher(self) -> nn.Module:
        """The same module tree; follows the student's moving average."""

    def views(self) -> tuple[ViewGroup, ...]:
        """The crops the loader makes for one sample."""

    def batches(self) -> GroupBatches | None:
        """How photographs are put together: None one by one, or variant groups, whose labels ``loss`` then gets."""

    def to(self, device: torch.device) -> None:
        """Move the method's own state."""

    def loss(
        self,
        student: Callable[..., Tensor],
        crops: Mapping[str, Tensor],
        teacher_temp: float,
        labels: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's loss, and device tensors to log.

        The student first: calling the teacher waits for the gathering of its weights, which goes on meanwhile.
        """

    def reduce(self) -> None:
        """Start this step's collectives, after the last micro-batch's loss."""

    def commit(self, finite: Tensor) -> None:
        """Move the method's own state where the optimizer step was applied: [] bool on the device, never read here."""

    def state_dict(self) -> dict[str, Tensor]:
        """The method's own state, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""


METHODS: dict[str, Callable[..., Method]] = {
    "skill": Skill,
    "dino": Dino,
    "byol": Byol,
    "simclr": Simclr,
    "mocov2": Mocov2,
    "simsiam": Simsiam,
    "pbcnet": Pbcnet,
    "triplet": Triplet,
}
"""Name -> class; called with (its section of the configuration, backbone, head, views, seed=...)."""

__all__ = ["METHODS", "Method"]
