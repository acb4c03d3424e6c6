"""Loaders with worker processes are timed over whole bursts: on a clock that only their batches and steps move."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from benchmarks.loaders import CONTENDERS, Crops, photographs
from benchmarks.loaders import Job as LoaderJob
from benchmarks.loaders import __main__ as of_loader
from benchmarks.loaders.window import BY_PROCESSES, TIMED_S, Window
from benchmarks.recipes import BASE, RECIPES, Job
from benchmarks.recipes import __main__ as of_recipe
from benchmarks.training import Setting

BATCH, WORKERS, TASK_S = 8, 16, 4.0
SUSTAINED = WORKERS * BATCH / TASK_S
TOY = Setting(model="toy", batch=BATCH, precision="fp32", recipes="none")


class Clock:
    """Seconds that pass only where somebody waits or computes."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def delivered(clock: Clock, task_s: float = TASK_S):
    """A DataLoader: each worker makes whole batches, one behind the other, at most ``PREFETCH_FACTOR`` ahead."""
    ready_s, taken_s, ahead = [], [], WORKERS * photographs.PREFETCH_FACTOR
    while True:
        place = len(taken_s)
        while len(ready_s) < place + ahead:
            n = len(ready_s)
            free_s = ready_s[n - WORKERS] if n >= WORKERS else 0.0
            asked_s = taken_s[n - ahead] if n >= ahead else 0.0
            ready_s.append(max(free_s, asked_s) + task_s)
        clock.now = max(clock.now, ready_s[place])
        taken_s.append(clock.now)
        yield Crops({})


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    for module in (of_loader, of_recipe):
        monkeypatch.setattr(module, "time", found)
        monkeypatch.setattr(module, "_cpu_s", lambda: 0.0)
    monkeypatch.setattr(of_recipe, "moment", lambda _device: found.now)
    monkeypatch.setattr(of_loader, "gate", lambda *_: None)
    return found


@pytest.mark.parametrize("seconds", [0.0, 3.0, 8.0, 11.0])
def test_a_loader_alone_is_timed_over_whole_bursts(clock, monkeypatch, seconds):
    module = SimpleNamespace(batches=lambda _job: delivered(clock))
    monkeypatch.setattr(of_loader, "importlib", SimpleNamespace(import_module=lambda _name: module))
    found = of_loader.measure(LoaderJob("torchvision + PIL DataLoader", "d", BATCH, WORKERS, "cpu"), seconds)
    assert found["products_per_s"] == pytest.approx(SUSTAINED, rel=1e-6)
    assert found["batches"] % WORKERS == 0 and found["batches"] >= 2 * WORKERS and found["workers"] == WORKERS


@pytest.mark.parametrize("step_s", [0.01, 0.1, 0.2, 0.3, 0.6])
def test_a_training_that_waits_for_bursts_has_the_lesser_rate(clock, monkeypatch, tmp_path, step_s):
    """Step or loader, whichever is slower: the stock that the gate's steps left is not taken for a rate."""

    def step(_crops):
        clock.now += step_s
        return torch.tensor(1.0)

    def gate(crops, step, _job):
        for _ in range(of_recipe.GATE_STEPS * 10):  # long enough for a full queue
            step(crops)
        return [2.0, 1.0]

    monkeypatch.setattr(of_recipe, "parts", lambda *_: (delivered(clock), step, {}))
    monkeypatch.setattr(of_recipe, "gate", gate)
    monkeypatch.setattr(of_recipe, "gpu_sampler", lambda _: nullcontext())
    for name in ("gpu_fields", "of_run", "megapixels_a_photograph", "open_index"):
        monkeypatch.setattr(of_recipe, name, lambda *_: {})
    found = of_recipe.measure(Job(BASE, TOY, "d", WORKERS, "cpu", 1.0), tmp_path)
    # The batch before the warm-up had no step: one step's time of two bursts' is between the window's ends.
    assert found["products_per_s"] == pytest.approx(min(SUSTAINED, BATCH / step_s), rel=2e-3)
    assert found["batches"] == found["steps"] >= 2 * WORKERS and found["workers"] == found["burst"] == WORKERS


def test_a_window_ends_where_its_time_does_though_within_a_burst():
    window = Window.of("torchvision_pil", WORKERS)
    assert window.goes_on(31, 1.0, 0.0) and not window.goes_on(32, 1.0, 0.0)
    assert window.goes_on(32, 1.0, 2.0) and window.goes_on(33, 3.0, 2.0)
    assert not window.goes_on(5, TIMED_S + 1, 0.0) and window.goes_on(0, TIMED_S + 1, 0.0)
    now, taken = Clock(), []

    def slow():
        while True:
            now.now += 20.0
            taken.append(1)
            yield None

    window.drain(slow(), now.perf_counter)
    assert len(taken) == 5, "of 32: the row's time would be over"
    threads = Window.of("ours", WORKERS, 4)
    assert (threads.burst, threads.queued) == (1, 8) and threads.goes_on(5, 9.0, 0.0) and not threads.goes_on(6, 9.0, 0)


def test_the_loaders_with_worker_processes_are_those_that_build_a_loader_of_such():
    modules = {f"benchmarks.loaders.{name}" for name in CONTENDERS.values()}
    for name in modules | {recipe.loader for recipe in RECIPES.values()}:
        source = inspect.getsource(import_module(name))
        has_workers = "= data_loader(" in source or "in data_loader(" in source or "WebLoader(" in source
        assert has_workers == (name.rpartition(".")[2] in BY_PROCESSES), name


def test_batches_go_on_behind_the_end_of_the_photographs(drawn):
    """Also where one batch is more than all of them; every photograph comes as often as any other."""

    class Places(photographs.Pairs):
        def __getitem__(self, place):
            return [torch.tensor(float(place))], [torch.tensor(0.0)], (0, 0)

    pairs = Places(str(drawn), None)
    many = len(pairs) + 5
    loader = iter(photographs.data_loader(LoaderJob("", str(drawn), many, 0, "cpu"), pairs))
    places = torch.cat([next(loader).crops["global"][0] for _ in range(len(pairs))]).long()
    assert torch.bincount(places, minlength=len(pairs)).tolist() == [many] * len(pairs)
