"""A driver with one GPU, for machines without: every reading is known, energy grows by 350 J a second."""

from __future__ import annotations

import time
from types import SimpleNamespace

POWER_W, SM, MEMORY, NVJPG, USED_MIB = 350.0, 87, 41, 33, 30_000
TO_GPU_KB, FROM_GPU_KB = 12_000_000, 3_000_000
DRIVER, SM_MHZ, MEMORY_MHZ = "580.95.05", 1980, 2619


class NVMLError(Exception):
    pass


NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
asked_uuids: list[str] = []


def nvmlInit() -> None: ...


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return 1


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    return f"gpu {index}"


def nvmlDeviceGetHandleByUUID(uuid: str) -> str:
    asked_uuids.append(uuid)
    return uuid


def nvmlSystemGetDriverVersion() -> str:
    return DRIVER


def nvmlDeviceGetClockInfo(_handle: str, kind: int) -> int:
    return {NVML_CLOCK_GRAPHICS: 1, NVML_CLOCK_SM: SM_MHZ, NVML_CLOCK_MEM: MEMORY_MHZ}[kind]


def nvmlDeviceGetUtilizationRates(_handle: str) -> SimpleNamespace:
    return SimpleNamespace(gpu=SM, memory=MEMORY)


def nvmlDeviceGetMemoryInfo(_handle: str) -> SimpleNamespace:
    return SimpleNamespace(used=USED_MIB << 20)


def nvmlDeviceGetJpgUtilization(_handle: str) -> list[int]:
    return [NVJPG, 167_000]


def nvmlDeviceGetPowerUsage(_handle: str) -> int:
    return int(POWER_W * 1000)


def nvmlDeviceGetPcieThroughput(_handle: str, direction: int) -> int:
    return TO_GPU_KB if direction == NVML_PCIE_UTIL_RX_BYTES else FROM_GPU_KB


def nvmlDeviceGetTotalEnergyConsumption(_handle: str) -> int:
    return int(time.monotonic() * POWER_W * 1000)
