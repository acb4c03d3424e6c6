"""What a number was measured with: versions, source tree, machine, date. For run folders and benchmark records."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from skill_fast.telemetry.nvml import driver_and_clocks

PACKAGES = (
    "torch", "deepspeed", "timm", "numpy", "webdataset", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "triton",
    "torchvision", "lightly", "kornia", "Pillow", "spdl",
)  # fmt: skip
"""The second line: what the benchmarks' other loaders and recipes are made of."""


def provenance(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a number depends on beside its settings, and given a config its fingerprint; JSON-able.

    {commit, dirty, versions, cpu, cores, host_load, gpu, gpus, driver, clocks, date}. commit and dirty are None when
    the source is not a git checkout (an installed package); gpu, driver and clocks (MHz) without a GPU. host_load:
    processes that ran or wanted to, on average over the minute before. Clocks as found now. date is UTC, to the second.
    """
    on_gpu = torch.cuda.is_available()
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}" if on_gpu else ""
    driver, clocks = driver_and_clocks(uuid) if on_gpu else (None, None)
    commit, dirty = source_state(Path(__file__).resolve().parents[2])
    found: dict[str, Any] = {
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "host_load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name(0) if on_gpu else None,
        "gpus": torch.cuda.device_count() if on_gpu else 0,
        "driver": driver,
        "clocks": clocks,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if config is not None:
        found["config_fingerprint"] = fingerprint(config)
    return found


def versions() -> dict[str, str]:
    """Installed versions of what decides results and speed, and python's own."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the git checkout whose top is ``root``; (None, None) when it is none."""
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit or None, None if changes is None else bool(changes)


def cpu_model() -> str:
    """The processor's name as the kernel tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def fingerprint(config: Mapping[str, Any]) -> str:
    """sha256 of a JSON-able mapping, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
