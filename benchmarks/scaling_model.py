"""How a step grows with the number of GPUs: one GPU's step, the bytes of each collective, the speed of the links.

::

    step(N) = compute + update(stage, N) + sum over exposed collectives of  latency * log2 N + wire(N) * bytes / speed
    wire(N) = 2 (N - 1) / N for an all-reduce, (N - 1) / N for an all-gather        rings: what each rank sends
    speed   = a GPU's link inside a node; between nodes the slower of that and what the node's links carry together

Which collectives there are was counted in real steps on two ranks (``benchmarks.traffic``; a test holds the two
together). Everything else is an assumption, listed in docs/scaling.md; stragglers, congestion and the loader are left
out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

GRADIENTS, PARAMETERS, TEACHER, CENTER = "gradients", "parameters", "teacher", "center"
UPDATE_BYTES = 30 + 14
"""An element: AdamW reads gradient, master and moments and writes master, moments and the copy; the average is 14."""
SHOWS = 0.05
"""Communication shows where it takes this share of the step."""
GPUS = tuple(2**n for n in range(10))


@dataclass(frozen=True)
class Fabric:
    """Links as their makers give them, one direction, and the share of that which collectives reach (assumed)."""

    name: str
    node_gb_per_s: float
    """A GPU to its node's others."""
    network_gb_per_s: float
    """A GPU's part of what leaves its node."""
    gpus_a_node: int = 8
    reached: float = 0.8
    latency_us: float = 10.0
    """A doubling of the ranks."""

    def ms(self, wire_bytes: float, ranks: int) -> float:
        """The time of one collective of which each rank sends ``wire_bytes``."""
        if ranks == 1:
            return 0.0
        between = self.gpus_a_node * self.network_gb_per_s
        speed = self.node_gb_per_s if ranks <= self.gpus_a_node else min(self.node_gb_per_s, between)
        return self.latency_us * math.log2(ranks) / 1e3 + wire_bytes / (speed * self.reached * 1e6)


FABRICS = (
    Fabric("NVLink 4, 400 Gb/s a GPU", 450.0, 50.0),
    Fabric("NVLink 4, 100 Gb/s a node", 450.0, 12.5 / 8),
    Fabric("PCIe 4 x16, 25 Gb/s a node", 32.0, 3.125 / 8),
)
"""450 GB/s a direction: NVIDIA's H100 data sheet (900 both ways). 32 GB/s: PCIe 4.0, 16 lanes. The rest by name."""


@dataclass(frozen=True)
class Job:
    """What is trained: one GPU's step, ms, at ``batch`` products, and what there is to send."""

    name: str
    batch: int
    compute_ms: float
    parameters: int
    prototypes: int = 65_536
    element_bytes: int = 2
    memory_gb_per_s: float = 4300.0
    """Of the GPU, read and written: what the update runs at."""
    assumed: bool = True
    """Whether the step's time is an assumption rather than a record's."""


def payload_bytes(job: Job, stage: int) -> dict[tuple[str, str], int]:
    """{(collective, of what): bytes} that a step sends at ZeRO 0, 1 or 2.

    DeepSpeed 0.19.8 all-reduces gradients at stages 1 and 2 too (``use_multi_rank_bucket_allreduce`` is on by default),
    then gathers the parameters that each rank has updated; stage 0 updates all of them everywhere. Flags and norms, a
    few bytes, are left out.
    """
    flat = job.parameters * job.element_bytes
    sent = {("all-reduce", GRADIENTS): flat, ("all-gather", TEACHER): flat, ("all-reduce", CENTER): 4 * job.prototypes}
    return sent | ({("all-gather", PARAMETERS): flat} if stage else {})


def wire_bytes(collective: str, payload: int, ranks: int) -> float:
    return payload * (2 if collective == "all-reduce" else 1) * (ranks - 1) / ranks


def communication_ms(job: Job, stage: int, ranks: int, fabric: Fabric) -> dict[str, float]:
    """{of what: ms} in which the GPU waits. The center's travels beside the backward pass and is left out."""
    return {
        what: fabric.ms(wire_bytes(collective, payload, ranks), ranks)
        for (collective, what), payload in payload_bytes(job, stage).items()
        if what != CENTER
    }


def update_ms(job: Job, element_bytes: int) -> float:
    """What reading and writing so many bytes a parameter takes: ``UPDATE_BYTES``, or 14 for the average alone."""
    return job.parameters * element_bytes / (job.memory_gb_per_s * 1e6)


def step_ms(job: Job, stage: int, ranks: int, fabric: Fabric) -> float:
    """Compute holds the update of one GPU: at stages 1 and 2, and of the teacher always, a rank does 1/ranks of it."""
    sharded = UPDATE_BYTES if stage else 14
    saved_ms = update_ms(job, sharded) * (1 - 1 / ranks)
    return job.compute_ms - saved_ms + sum(communication_ms(job, stage, ranks, fabric).values())


def efficiency(job: Job, stage: int, ranks: int, fabric: Fabric) -> float:
    """products/s a GPU, relative to one GPU alone, at the same batch a GPU."""
    return step_ms(job, stage, 1, fabric) / step_ms(job, stage, ranks, fabric)


def share_of_links(job: Job, stage: int, ranks: int, fabric: Fabric) -> float:
    """The part of a step in which the GPU waits for other ranks."""
    return sum(communication_ms(job, stage, ranks, fabric).values()) / step_ms(job, stage, ranks, fabric)


def first_that_shows(job: Job, stage: int, fabric: Fabric) -> int | None:
    """The fewest GPUs (a power of two, to 512) at which communication takes ``SHOWS`` of the step."""
    return next((n for n in GPUS if share_of_links(job, stage, n, fabric) >= SHOWS), None)


def state_bytes(job: Job, stage: int, ranks: int) -> float:
    """Memory a GPU for weights, gradients, masters, moments and the teacher; activations come on top."""
    copy, masters = job.element_bytes, 12
    whole = {0: copy + copy + masters, 1: copy + copy, 2: copy}[stage]
    sharded = {0: 0, 1: masters, 2: masters + copy}[stage]
    return job.parameters * (whole + copy + (sharded + 4) / ranks)


def fastest_stage(job: Job, ranks: int, fabric: Fabric, memory_gb: float = math.inf) -> int | None:
    """The stage with the shortest step among those whose state fits; of equals the lowest. None where none fits."""
    fitting = [stage for stage in (0, 1, 2) if state_bytes(job, stage, ranks) <= memory_gb * 1e9]
    return min(fitting, key=lambda stage: (round(step_ms(job, stage, ranks, fabric), 9), stage), default=None)


def at_global_batch(job: Job, batch: int, ranks: int) -> Job:
    """The same job with a part of a fixed global batch a rank; a step but for its update is taken to follow the batch.

    compute = (compute - update) * share + update, for the update goes over all parameters whatever the batch.
    """
    whole_ms = update_ms(job, UPDATE_BYTES)
    followed_ms = (job.compute_ms - whole_ms) * batch / ranks / job.batch
    return replace(job, batch=batch // ranks, compute_ms=followed_ms + whole_ms)
