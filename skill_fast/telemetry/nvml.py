"""What the GPU does, sampled on a thread: utilisation of its cores, memory and JPEG engine, PCIe traffic, and power."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

import pynvml

READINGS = (
    "sm_percent", "memory_percent", "memory_used_mib", "nvjpg_percent", "power_w", "pcie_to_gpu_mb_per_s",
    "pcie_from_gpu_mb_per_s",
)  # fmt: skip
"""Of a sample: those of which a mean over time makes sense."""


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
    pcie_to_gpu_mb_per_s: float | None = None
    pcie_from_gpu_mb_per_s: float | None = None
    energy_j: float | None = None
    """What the GPU has used since its driver was loaded."""


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


def driver_and_clocks(uuid: str) -> tuple[str | None, dict[str, int] | None]:
    """The driver's version and {sm_mhz, memory_mhz} of a GPU ("GPU-...") as found; None where it does not tell."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None, None
    driver, clocks = None, None
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        kinds = {"sm_mhz": pynvml.NVML_CLOCK_SM, "memory_mhz": pynvml.NVML_CLOCK_MEM}
        clocks = {name: int(pynvml.nvmlDeviceGetClockInfo(handle, kind)) for name, kind in kinds.items()}
    except pynvml.NVMLError:  # a slice of a GPU has no clocks of its own
        pass
    finally:
        pynvml.nvmlShutdown()
    return driver, clocks


class Sampler:
    """``with Sampler(0) as sampler: ...; samples = list(sampler)``; on a machine without a driver it yields nothing.

    index: the GPU as the driver counts it (not CUDA_VISIBLE_DEVICES); uuid: "GPU-...", instead of it. every_s: the
    driver itself averages over 0.2-1 s, so faster sampling repeats readings. At most ``limit`` of the latest samples
    are kept.
    """

    def __init__(self, index: int = 0, every_s: float = 0.5, limit: int = 100_000, uuid: str = "") -> None:
        self._index, self._uuid, self._every_s, self._limit = index, uuid, every_s, limit
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
        readings = {name: [getattr(s, name) for s in self if getattr(s, name) is not None] for name in READINGS}
        return {name: sum(found) / len(found) for name, found in readings.items() if found}

    def energy_j(self) -> float | None:
        """Joules from the first sample to the last: by the GPU's own counter, else power summed over time.

        None with fewer than two samples, or where the GPU tells neither.
        """
        samples = list(self)
        if len(samples) < 2:
            return None
        first, last = samples[0].energy_j, samples[-1].energy_j
        if first is not None and last is not None:
            return last - first
        powers = [(s.at_s, s.power_w) for s in samples if s.power_w is not None]
        if len(powers) < 2:
            return None
        return sum((then - at) * (power + next_power) / 2 for (at, power), (then, next_power) in pairwise(powers))

    def _run(self) -> None:
        pynvml.nvmlInit()
        try:
            handle = (
                pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
                if self._uuid
                else pynvml.nvmlDeviceGetHandleByIndex(self._index)
            )
            going_on = True
            while going_on:  # once more after the end, so that energy is of the whole time
                going_on = not self._stop.wait(self._every_s if self._samples else 0)
                self._samples.append(_read(handle))
                del self._samples[: -self._limit]
        except pynvml.NVMLError:
            return  # the GPU went away, or there is none of this index: no samples are better than a dead run
        finally:
            pynvml.nvmlShutdown()


def _read(handle: object) -> GpuSample:
    def ask(name: str, *of_what: int) -> object | None:
        try:
            return getattr(pynvml, name)(handle, *of_what)
        except (pynvml.NVMLError, AttributeError):  # not supported by this GPU, or not known to this pynvml
            return None

    rates, memory = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetMemoryInfo")
    jpeg, power_mw = ask("nvmlDeviceGetJpgUtilization"), ask("nvmlDeviceGetPowerUsage")
    to_gpu, from_gpu = (
        ask("nvmlDeviceGetPcieThroughput", direction)  # KB/s over the latest 20 ms
        for direction in (pynvml.NVML_PCIE_UTIL_RX_BYTES, pynvml.NVML_PCIE_UTIL_TX_BYTES)
    )
    energy_mj = ask("nvmlDeviceGetTotalEnergyConsumption")
    return GpuSample(
        at_s=time.monotonic(),
        sm_percent=getattr(rates, "gpu", None),
        memory_percent=getattr(rates, "memory", None),
        memory_used_mib=int(memory.used) >> 20 if memory is not None else None,  # type: ignore[attr-defined]
        nvjpg_percent=int(jpeg[0]) if isinstance(jpeg, list | tuple) else None,
        power_w=power_mw / 1000 if isinstance(power_mw, int) else None,
        pcie_to_gpu_mb_per_s=to_gpu / 1000 if isinstance(to_gpu, int) else None,
        pcie_from_gpu_mb_per_s=from_gpu / 1000 if isinstance(from_gpu, int) else None,
        energy_j=energy_mj / 1000 if isinstance(energy_mj, int) else None,
    )
