"""How many batches of a loader are timed: one with worker processes hands them over in bursts.

A worker of a DataLoader makes a whole batch, and all of them begin together: 16 workers deliver 16 batches at once,
then none for as long as one takes. A window that ends within a burst says up to three times the rate that is sustained,
one between two bursts a third of it. And up to ``workers * PREFETCH_FACTOR`` batches lie ready when the timing begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.loaders.photographs import PREFETCH_FACTOR

BY_PROCESSES = ("torchvision_pil", "torchvision_v2", "webdataset_torchvision", "kornia_batches", "lightly_dino")
"""Modules whose loader has worker processes; the others have threads that work on one batch together."""
LEAST_BATCHES, LEAST_BURSTS = 6, 2
USUAL_PREFETCH = 2
"""Of a loader of threads: DALI's depth, SPDL's sink, ours where nothing else is asked for."""
DRAINING_S, TIMED_S = 90.0, 150.0
"""At most: with the start of a process both fit the 300 s that a measurement has before it is killed."""


@dataclass(frozen=True)
class Window:
    """burst: batches that come at once. queued: batches that may lie ready."""

    burst: int
    queued: int

    @staticmethod
    def of(module: str, workers: int, prefetch: int = USUAL_PREFETCH) -> Window:
        """Of the loader in ``module``, a name with or without its package; prefetch: of one with threads."""
        if workers and module.rpartition(".")[2] in BY_PROCESSES:
            return Window(workers, workers * PREFETCH_FACTOR)
        return Window(1, 2 * prefetch)  # ours works on as many batches as lie ready

    def drain(self, batches: Iterator[Any], now_s: Callable[[], float]) -> None:
        """Take what may lie ready, and do nothing with it: steps between would let a loader that is a little slower
        than they are live on its stock for a whole window."""
        began = now_s()
        for _ in range(self.queued):
            next(batches)
            if now_s() - began > DRAINING_S:
                return

    def goes_on(self, batches: int, passed_s: float, seconds: float) -> bool:
        """Whether to time one more: whole bursts, at least two of them, for at least ``seconds``."""
        if batches and passed_s > TIMED_S:
            return False
        least = max(LEAST_BATCHES, LEAST_BURSTS * self.burst if self.burst > 1 else 0)
        return batches < least or passed_s < seconds or batches % self.burst != 0

    def fields(self, batches: int, workers: int) -> dict[str, int]:
        """Of a record: what was timed; ``batches`` is a multiple of ``burst`` unless ``TIMED_S`` was over before."""
        return {"batches": batches, "burst": self.burst, "workers": workers}
