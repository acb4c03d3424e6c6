"""Steps whose gradients were not finite: found without waiting for the device at each step, named, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skill_fast.errors import NotFinite
from skill_fast.telemetry.sinks import truncate_after

IN_A_ROW = 3
OF_THE_LATEST, LATEST = 10, 1000


class NotFiniteSteps:
    """Keeps each step's flag on the device, and which products it showed on the host, until ``look``.

    ::

        note(step, finite, products)     every step; waits for nothing
        look()                           now and then: one copy of all flags since the last look

    Each step that was skipped is a line in ``file`` (JSON: step, this rank's products by id). Raises NotFinite for 3
    such steps in a row, or 10 within 1,000. ``steps`` is what a checkpoint must hold.
    """

    def __init__(self, file: Path | None, ids_of: Callable[[np.ndarray], Sequence[str]], *, judged: bool) -> None:
        """ids_of: product rows -> product ids. judged: False where a loss scale is searched for by such steps."""
        self._file, self._ids_of, self._judged = file, ids_of, judged
        self._noted: list[tuple[int, Tensor, np.ndarray]] = []
        self.steps: list[int] = []

    def resume(self, steps: Sequence[int], step: int) -> None:
        """Go on after ``step`` with a checkpoint's ``steps``; lines of later steps, which come again, are dropped."""
        self.steps = list(steps)
        if self._file is not None:
            truncate_after(self._file, step)

    def note(self, step: int, finite: Tensor, products: np.ndarray) -> None:
        """step: counted from 1. finite: [] bool on the device. products: [n] rows of the step's batches."""
        self._noted.append((step, finite, products))

    def look(self) -> None:
        """Read the flags since the last look, the only moment at which the host waits for them."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        flags = torch.stack([finite for _, finite, _ in noted]).tolist()
        for (step, _, products), finite in zip(noted, flags):
            if finite:
                continue
            self.steps = [earlier for earlier in self.steps if earlier > step - LATEST] + [step]
            self._list(step, products)
            if self._judged:
                self._judge(step)

    def _list(self, step: int, products: np.ndarray) -> None:
        if self._file is not None:
            line = {"step": step, "products": list(self._ids_of(np.unique(products)))}
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _judge(self, step: int) -> None:
        in_a_row = self.steps[-IN_A_ROW:] == list(range(step - IN_A_ROW + 1, step + 1))
        if in_a_row or len(self.steps) >= OF_THE_LATEST:
            raise NotFinite(
                f"the gradients of {IN_A_ROW if in_a_row else len(self.steps)} steps "
                f"{'in a row' if in_a_row else f'of the latest {LATEST:,}'} up to step {step} are not finite: "
                f"steps {', '.join(map(str, self.steps))}"
                + (f"; their products are in {self._file}" if self._file else ""),
                allowed=f"fewer than {IN_A_ROW} in a row and {OF_THE_LATEST} of {LATEST:,}",
                change="a lower --optimizer.lr, or look at the photographs; checkpoints already written are kept",
            )
