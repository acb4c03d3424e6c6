"""Where a step's time goes: named phases on the host's clock, deliberate synchronisations among them."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np


class Clock:
    """Times steps and the phases inside them, over a window of the latest ones.

    ``with clock.step(): ... with clock.phase("forward"): ... clock.add("data_wait", batch.wait_ms)``

    On a GPU a phase measures what the host spent on it: work is queued, not done. Where the host waits for the device
    on purpose, that wait is a ``sync`` with a name of its own, so that no synchronisation hides in another phase.
    """

    def __init__(self, window: int = 200) -> None:
        self._steps_ms: deque[float] = deque(maxlen=window)
        self._phases_ms: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))
        self._inside: defaultdict[str, float] | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """One training step; phases recorded inside belong to it. A step that raises is not recorded."""
        self._inside = defaultdict(float)
        began = time.perf_counter()
        try:
            yield
            self.add_step((time.perf_counter() - began) * 1e3)
            for name, spent_ms in self._inside.items():
                self._phases_ms[name].append(spent_ms)
        finally:
            self._inside = None

    def add_step(self, spent_ms: float) -> None:
        """Record a step that something else measured."""
        self._steps_ms.append(spent_ms)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A named part of a step; entered several times in one step it adds up."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - began) * 1e3)

    def sync(self, name: str, wait: Callable[[], object]) -> None:
        """Wait for the device by ``wait()`` (``torch.cuda.synchronize``, an event) under the name ``sync:<name>``."""
        with self.phase(f"sync:{name}"):
            wait()

    def add(self, name: str, spent_ms: float) -> None:
        """Record time that something else measured; outside a step it is a sample of its own."""
        if self._inside is not None:
            self._inside[name] += spent_ms
        else:
            self._phases_ms[name].append(spent_ms)

    @property
    def step_ms(self) -> float:
        """Mean over the window; nan before the first step."""
        return _mean(self._steps_ms)

    def phase_ms(self, name: str) -> float:
        """Mean of a phase over the window; 0 when it never occurred."""
        return _mean(self._phases_ms[name]) if self._phases_ms.get(name) else 0.0

    def share(self, name: str) -> float:
        """A phase's part of the step time, 0 to 1."""
        return min(1.0, self.phase_ms(name) / self.step_ms) if self._steps_ms and self.step_ms > 0 else 0.0

    def quantiles_ms(self, name: str | None = None) -> dict[str, float]:
        """{"p50", "p99"} of a phase, or of whole steps; nan without samples."""
        samples = self._steps_ms if name is None else self._phases_ms.get(name, ())
        if not samples:
            return {"p50": float("nan"), "p99": float("nan")}
        p50, p99 = np.percentile(np.asarray(samples), [50, 99])
        return {"p50": float(p50), "p99": float(p99)}

    def names(self) -> list[str]:
        return sorted(self._phases_ms)


def _mean(samples: deque[float]) -> float:
    return sum(samples) / len(samples) if samples else float("nan")
