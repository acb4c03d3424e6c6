"""Methods by name, each one flat file, and what the loop asks of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from skill_fast.data.views import ViewGroup
from skill_fast.methods.skill import Skill


class Method(Protocol):
    """What ``engine.loop.train`` calls, in the order of the calls; there is nothing to inherit from."""

    @property
    def student(self) -> nn.Module:
        """Trained by the engine."""

    @property
    def teacher(self) -> nn.Module:
        """The same module tree; follows the student's moving average."""

    def views(self) -> tuple[ViewGroup, ...]:
        """The crops the loader makes for one sample."""

    def to(self, device: torch.device) -> None:
        """Move the method's own state."""

    def loss(
        self, student: Callable[..., Tensor], crops: Mapping[str, Tensor], teacher_temp: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's loss, and device tensors to log."""

    def reduce(self) -> None:
        """Start this step's collectives, after the last micro-batch's loss."""

    def commit(self, finite: Tensor) -> None:
        """Move the method's own state where the optimizer step was applied: [] bool on the device, never read here."""

    def state_dict(self) -> dict[str, Tensor]:
        """The method's own state, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""


METHODS: dict[str, type[Skill]] = {"skill": Skill}

__all__ = ["METHODS", "Method", "Skill"]
