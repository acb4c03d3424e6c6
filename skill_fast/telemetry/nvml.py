"""What the GPU does, sampled on a thread: utilisation of its cores, memory and JPEG engine, and power."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import pynvml


@dataclass(frozen=True)
class GpuSample:
    """One reading; None where this GPU or driver does not tell."""

    at_s: float
    """time.monotonic()"""
    sm_percent: int | None
    memory_percent: int | None
    """Share of time in which memory was read or written, not the share that is full."""
    memory_used_mib: int | None
    nvjpg_percent: int | None
    power_w: float | None


def available() -> bool:
    """Whether an NVIDIA driver with at least one GPU answers."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()


class Sampler:
    """``with Sampler(0) as sampler: ...; samples = list(sampler)``; on a machine without a driver it yields nothing.

    index: the GPU as the driver counts it (not CUDA_VISIBLE_DEVICES). every_s: the driver itself averages over 0.2-1 s,
    so faster sampling repeats readings. At most ``limit`` of the latest samples are kept.
    """

    def __init__(self, index: int = 0, every_s: float = 0.5, limit: int = 100_000) -> None:
        self._index, self._every_s, self._limit = index, every_s, limit
        self._samples: list[GpuSample] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        if available():
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[GpuSample]:
        return iter(list(self._samples))

    def means(self) -> dict[str, float]:
        """Mean of every reading that came, by name; empty without a GPU."""
        names = ("sm_percent", "memory_percent", "memory_used_mib", "nvjpg_percent", "power_w")
        readings = {name: [getattr(s, name) for s in self if getattr(s, name) is not None] for name in names}
        return {name: sum(found) / len(found) for name, found in readings.items() if found}

    def _run(self) -> None:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
            while not self._stop.is_set():
                self._samples.append(_read(handle))
                del self._samples[: -self._limit]
                self._stop.wait(self._every_s)
        except pynvml.NVMLError:
            return  # the GPU went away, or there is none of this index: no samples are better than a dead run
        finally:
            pynvml.nvmlShutdown()


def _read(handle: object) -> GpuSample:
    def ask(name: str) -> object | None:
        try:
            return getattr(pynvml, name)(handle)
        except (pynvml.NVMLError, AttributeError):  # not supported by this GPU, or not known to this pynvml
            return None

    rates, memory = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetMemoryInfo")
    jpeg, power_mw = ask("nvmlDeviceGetJpgUtilization"), ask("nvmlDeviceGetPowerUsage")
    return GpuSample(
        at_s=time.monotonic(),
        sm_percent=getattr(rates, "gpu", None),
        memory_percent=getattr(rates, "memory", None),
        memory_used_mib=int(memory.used) >> 20 if memory is not None else None,  # type: ignore[attr-defined]
        nvjpg_percent=int(jpeg[0]) if isinstance(jpeg, list | tuple) else None,
        power_w=power_mw / 1000 if isinstance(power_mw, int) else None,
    )
