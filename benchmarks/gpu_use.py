"""What the GPU did during a measurement, as fields of a record."""

from __future__ import annotations

import resource
from dataclasses import asdict
from typing import Any

import torch

from skill_fast.telemetry.nvml import GpuSample, Sampler

KEPT_SAMPLES = 200
"""Of a record: enough for a plot over time."""


def gpu_sampler(device: torch.device | str) -> Sampler:
    """A sampler of the GPU that torch calls ``device``, whatever CUDA_VISIBLE_DEVICES made of its number."""
    device = torch.device(device)
    if device.type != "cuda":
        return Sampler()
    return Sampler(uuid=f"GPU-{torch.cuda.get_device_properties(device).uuid}", every_s=0.1)


def gpu_fields(sampler: Sampler, photographs: float) -> dict[str, Any]:
    """Means, joules per 1,000 photographs, and up to ``KEPT_SAMPLES`` samples; {} without a GPU.

    photographs: decoded while the sampler ran. The driver averages over 0.2 to 1 s, so a short measurement has few
    independent readings.
    """
    samples = list(sampler)
    if not samples:
        return {}
    energy_j = sampler.energy_j()
    kept = samples[:: max(1, -(-len(samples) // KEPT_SAMPLES))]
    return {
        **sampler.means(),
        "joules_per_1000_photographs": None if energy_j is None else 1000 * energy_j / photographs,
        "gpu_samples": [_since(sample, samples[0].at_s) for sample in kept],
    }


def _since(sample: GpuSample, start_s: float) -> dict[str, Any]:
    told = {name: value for name, value in asdict(sample).items() if value is not None and name != "energy_j"}
    return told | {"at_s": round(sample.at_s - start_s, 3)}


def memory_fields(device: torch.device | str) -> dict[str, float]:
    """Peak of what torch held on the GPU since the start; on a CPU the peak of the process.

    To be read before ``stopwatch.clocked`` is called: it begins a new peak.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return {
            "gpu_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20,
            "gpu_reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20,
        }
    return {"process_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
