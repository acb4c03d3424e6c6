"""What the benchmarks do on a GPU only, on a machine without: a device whose clock stands still between its kernels."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from benchmarks import gpu_use, kernels
from benchmarks.contenders import Task
from benchmarks.stopwatch import Timing, clocked, moment, ms_between
from skill_fast.telemetry import nvml
from tests.benchmarks import nvml_stub

CUDA = torch.device("cuda")


class Gpu:
    """Its time in ms grows by ``work``; an event holds the moment at which it was recorded."""

    def __init__(self) -> None:
        self.now_ms, self.waits, self.held, self.peak = 0.0, 0, 1000, 5000

    def work(self, cost_ms: float) -> None:
        self.now_ms += cost_ms
        self.peak = max(self.peak, self.held + int(100 * cost_ms))

    def synchronize(self, _device: Any = None) -> None:
        self.waits += 1

    def reset(self, _device: Any) -> None:
        self.peak = self.held


@pytest.fixture
def gpu(monkeypatch) -> Gpu:
    gpu = Gpu()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.at_ms: float | None = None

        def record(self) -> None:
            self.at_ms = gpu.now_ms

        def synchronize(self) -> None:
            assert self.at_ms == gpu.now_ms, "waits for the last moment"
            gpu.waits += 1

        def elapsed_time(self, later: Event) -> float:
            assert gpu.waits, "read before the device was there"
            return later.at_ms - self.at_ms

    fake = {"Event": Event, "synchronize": gpu.synchronize, "reset_peak_memory_stats": gpu.reset}
    fake |= {"memory_allocated": lambda _: gpu.held, "max_memory_allocated": lambda _: gpu.peak}
    fake |= {"max_memory_reserved": lambda _: 3 * 2**20}
    for name, stub in fake.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    return gpu


def test_a_run_is_timed_from_its_beginning_to_its_end_and_warm_up_is_not(gpu):
    costs = iter([50.0, 40.0, 5.0, 7.0, 9.0])
    timing = clocked(lambda: gpu.work(next(costs)), CUDA, repeats=3, warm_up=2)
    assert timing == Timing((5.0, 7.0, 9.0), 2, 900), "peak memory too is of the timed runs, over what was held"
    assert gpu.waits == 2, "once before the first run, once behind the last"


def test_moments_are_recorded_on_the_device_and_read_when_it_is_there(gpu):
    moments = [moment(CUDA)]
    for cost in (3.0, 4.5):
        gpu.work(cost)
        moments.append(moment("cuda"))
    assert not gpu.waits
    assert ms_between(moments) == [3.0, 4.5]


def test_moments_of_the_host_are_seconds_and_become_milliseconds():
    assert ms_between([1.0, 1.5, 1.75]) == [500.0, 250.0]
    assert isinstance(moment("cpu"), float)


def test_the_sampler_watches_the_gpu_that_torch_means(monkeypatch):
    """CUDA_VISIBLE_DEVICES may call the driver's third GPU cuda:1: only the uuid says which it is."""
    uuids = {torch.device("cuda:0"): "aa", torch.device("cuda:1"): "bb"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[device]))
    monkeypatch.setattr(nvml, "pynvml", nvml_stub)
    monkeypatch.setattr(nvml_stub, "asked_uuids", [])
    with gpu_use.gpu_sampler("cuda:1") as sampler:
        pass
    assert nvml_stub.asked_uuids == ["GPU-bb"]
    assert gpu_use.gpu_fields(sampler, photographs=10)["power_w"] == nvml_stub.POWER_W


def test_memory_is_in_mebibytes(gpu):
    gpu.peak = 5 * 2**19
    assert gpu_use.memory_fields("cuda") == {"gpu_allocated_mib": 2.5, "gpu_reserved_mib": 3.0}


def options(**changed: Any) -> Namespace:
    usual = {"compile": True, "sweep": False, "dtype": "bfloat16", "elements": [10], "batch": [2], "prototypes": 7}
    return Namespace(**usual | {"repeats": 3, "warm_up": 1} | changed)


@pytest.mark.parametrize("sweep", [False, True])
def test_on_a_gpu_every_task_is_given_its_fused_kernel(monkeypatch, sweep):
    made: list[tuple[str, Any, bool]] = []
    modules = {name: object() for name in ("ema", "distillation", "centering")}
    monkeypatch.setattr(kernels, "fused_modules", lambda: modules)
    for name in (*modules, "sinkhorn"):

        def task(*_: Any, name: str = name, compiled: bool, fused: Any = None, part: str = "") -> None:
            made.append((f"{name}/{part}".strip("/"), fused, compiled))

        monkeypatch.setattr(kernels, f"{name}_task", task)
    for make in kernels.tasks(CUDA, options(sweep=sweep)):
        make()
    wanted = [("ema", "ema"), ("distillation/forward", "distillation"), ("distillation/both", "distillation")]
    found = [(name, modules[of], not sweep) for name, of in [*wanted, ("centering", "centering")]]
    assert made == found + ([] if sweep else [("sinkhorn", None, True)])


class Launch(NamedTuple):
    tile: int = 0
    warps: int = 0
    programs: int = 0
    gradient_block: int = 0
    gradient_warps: int = 0


@pytest.mark.parametrize(("name", "launches"), [("ema", 12), ("distillation/forward", 27), ("distillation/both", 16)])
def test_the_sweep_times_the_fused_kernel_with_the_launch_that_it_names(monkeypatch, name, launches):
    usual = Launch()
    module = SimpleNamespace(BLOCK=1, WARPS=1, Launch=Launch, LAUNCH=usual)
    timed: list[dict[str, Any]] = []

    def fused() -> None:
        held = {"BLOCK": module.BLOCK, "WARPS": module.WARPS}
        timed.append({"LAUNCH": module.LAUNCH._asdict()} if "/" in name else held)

    def time(way: Any, *_: Any, **__: Any) -> Timing:
        way()
        return Timing((1.0,), 1, None)

    monkeypatch.setattr(kernels, "fused_modules", lambda: {name.partition("/")[0]: module})
    monkeypatch.setattr(kernels, "clocked", time)
    task = Task(name, {"reference": lambda: pytest.fail("not swept"), "fused": fused}, 1, 1, {}, "float32")
    records = list(kernels.sweep(task, CUDA, options()))
    assert [record["launch"] for record in records] == timed
    assert len({str(launch) for launch in timed}) == launches
    assert (module.BLOCK, module.WARPS) == (1, 1) and module.LAUNCH is usual, "and leaves it as it was"
