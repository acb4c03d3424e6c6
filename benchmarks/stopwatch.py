"""How long one operation takes on a device, and how much memory it asks for; the shape of a record of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of single runs, and the bytes allocated at most on top of what was there before a run."""

    runs_ms: tuple[float, ...]
    warm_up: int
    extra_bytes: int | None

    @property
    def median_ms(self) -> float:
        return statistics.median(self.runs_ms)

    def record(self, what: str, **about: Any) -> dict[str, Any]:
        """One record (docs/contracts.md, section 4) without its provenance."""
        ordered = sorted(self.runs_ms)
        at = {f"p{q}": ordered[min(len(ordered) - 1, round(q / 100 * (len(ordered) - 1)))] for q in (10, 50, 90)}
        return {
            "what": what,
            "value": self.median_ms,
            "unit": "ms",
            "quantiles": at,
            "repeats": len(self.runs_ms),
            "warm_up": self.warm_up,
            "extra_bytes": self.extra_bytes,
            **about,
        }


def together(turns: Sequence[Timing]) -> Timing:
    """The runs of several turns as those of one."""
    extra = [timing.extra_bytes for timing in turns if timing.extra_bytes is not None]
    runs_ms = tuple(run_ms for timing in turns for run_ms in timing.runs_ms)
    return Timing(runs_ms, turns[0].warm_up, max(extra, default=None))


def clocked(run: Callable[[], object], device: torch.device, *, repeats: int, warm_up: int) -> Timing:
    """Time ``run`` by the device's own clock: events on a GPU, so that launches overlap as they do in training."""
    for _ in range(warm_up):
        run()
    if device.type != "cuda":
        return Timing(tuple(_host_ms(run) for _ in range(repeats)), warm_up, None)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2 * repeats)]
    for start, end in zip(marks[::2], marks[1::2]):
        start.record()
        run()
        end.record()
    torch.cuda.synchronize(device)
    extra = torch.cuda.max_memory_allocated(device) - before
    return Timing(tuple(s.elapsed_time(e) for s, e in zip(marks[::2], marks[1::2])), warm_up, extra)


def settle(device: torch.device | str) -> None:
    """Wait until the device has done all that was queued on it; on a CPU nothing is."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def moment(device: torch.device | str) -> Any:
    """Now, by the device's own clock: an event of its stream on a GPU, recorded without waiting."""
    if torch.device(device).type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def ms_between(moments: Sequence[Any]) -> list[float]:
    """Milliseconds from each moment to the next; on a GPU once the device has reached the last one."""
    if isinstance(moments[0], float):
        return [(after - before) * 1e3 for before, after in pairwise(moments)]
    moments[-1].synchronize()
    return [before.elapsed_time(after) for before, after in pairwise(moments)]


def _host_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000
