"""How fast a run goes and when it will be done, over a window of the latest steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Throughput:
    """Products and photographs a second over all ranks, and the time left.

    products_a_step: the global batch. photographs_a_product: two, x' and x'', for every method here.
    The window forgets: a slow start (first decode, first kernels) leaves the estimate after ``window`` steps.
    """

    def __init__(
        self,
        total_steps: int,
        products_a_step: int,
        photographs_a_product: int = 2,
        window: int = 50,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.total_steps, self.products_a_step = total_steps, products_a_step
        self.photographs_a_product = photographs_a_product
        self._now_s = now_s
        self._marks: deque[tuple[int, float]] = deque(maxlen=window + 1)

    def mark(self, step: int) -> None:
        """Note that ``step`` steps are done; gaps between marks are fine."""
        self._marks.append((step, self._now_s()))

    @property
    def steps_per_s(self) -> float:
        """0 until two marks lie apart."""
        if len(self._marks) < 2:
            return 0.0
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        return (last - first) / (ended - began) if ended > began else 0.0

    @property
    def products_per_s(self) -> float:
        return self.steps_per_s * self.products_a_step

    @property
    def photographs_per_s(self) -> float:
        return self.products_per_s * self.photographs_a_product

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step at the present speed; None while that is unknown."""
        if not self.steps_per_s or not self._marks:
            return None
        return max(0, self.total_steps - self._marks[-1][0]) / self.steps_per_s


def clock_text(seconds: float | None) -> str:
    """``1:02:03``, ``2:03`` or ``--:--``."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
