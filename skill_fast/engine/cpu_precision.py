"""Which half precisions a CPU computes by itself; the others it only imitates, several times slower than fp32."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FLAGS = {"bf16": {"avx512_bf16", "amx_bf16"}, "fp16": {"avx512_fp16", "amx_fp16"}}
"""Any of them is enough (names of the Linux kernel, x86)."""


@lru_cache(maxsize=8)
def is_native(precision: str, cpuinfo: Path = CPUINFO) -> bool:
    """Whether this machine's CPU has instructions for ``precision`` (bf16, fp16, fp32); True where it does not say."""
    wanted = FLAGS.get(precision)
    try:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return True
    return wanted is None or not lines or bool(wanted & set(lines[0].split()))


def warning(precision: str, device: str) -> str:
    """A line for the head of a run that would be needlessly slow; "" where it is not."""
    if device != "cpu" or is_native(precision):
        return ""
    return f"this CPU has no {precision} instructions: ds_configs/zero2_fp32.json is several times faster here"
