"""What only a GPU's rows reach, on a machine without one: dtypes, devices, threads, waits; each kind of step built."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import loader
from benchmarks.loaders import Crops, Job, dali_webdataset, ours, photographs
from benchmarks.loaders import __main__ as of_loader
from benchmarks.recipes import Job as RecipeJob
from benchmarks.recipes import mixed_precision, networks, original_dino
from benchmarks.training import Setting, no_loader, work
from tests.benchmarks import nvml_stub
from tests.conftest import ROOT

TOY = Setting(model="toy", batch=4, precision="fp32", recipes="none")


def peer(name: str = "original DINO recipe", **changed: Any) -> RecipeJob:
    return RecipeJob(name, replace(TOY, **changed), "d", 0, "cpu", seconds=0.0)


def toy_crops() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(2, 4, 3, s, s, generator=generator) for n, s in (("global", 32), ("local", 16))}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_mixed_precision_is_that_of_the_setting(precision, dtype):
    with mixed_precision(peer(precision=precision)):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype
    with mixed_precision(peer()):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


def test_a_peer_trains_in_bf16_over_fp32_weights():
    """Its loss is fp32's to the three digits that bf16 has."""
    losses = {}
    for precision in ("fp32", "bf16"):
        job = peer(precision=precision)
        built = networks(job)
        kinds = set()
        built.student.head.register_forward_hook(lambda _m, _i, out, kinds=kinds: kinds.add(out.dtype))
        step = original_dino.make(job, built)
        losses[precision] = [float(step(toy_crops())) for _ in range(3)]
        assert all(parameter.dtype == torch.float32 for parameter in built.student.parameters())
        assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02) and losses["bf16"] != losses["fp32"]
    assert losses["bf16"][-1] < losses["bf16"][0]


def test_the_original_recipe_waits_for_a_gpu_in_every_step_and_never_on_a_cpu(monkeypatch):
    waits: list[int] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: waits.append(1))
    monkeypatch.setattr(original_dino, "mixed_precision", lambda _job: mixed_precision(peer()))
    for device, expected in (("cpu", 0), ("cuda", 2)):
        job, built = peer(), networks(peer())
        moved = SimpleNamespace(device=device, recipe=job.recipe, setting=job.setting)
        monkeypatch.setattr(original_dino.LoopLoss, "to", lambda self, _device: self)
        step = original_dino.make(moved, built)
        for _ in range(2):
            step(toy_crops())
        assert len(waits) == expected, device


def test_crops_are_moved_to_the_device_with_their_products():
    given = Crops({"global": torch.zeros(1)}, [(1, 1)])
    assert photographs.moved(given, "cpu") is given
    asked = []
    tensor = SimpleNamespace(to=lambda device, non_blocking: asked.append((device, non_blocking)) or "there")
    there = photographs.moved(Crops({"global": tensor}, [(1, 1)]), "cuda")
    assert (asked, there.crops, there.products) == ([("cuda", True)], {"global": "there"}, [(1, 1)])


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda", "float16")])
def test_our_loader_delivers_what_the_device_takes(device, dtype, drawn, monkeypatch):
    class Asked(Exception):
        pass

    def refuse(_index, _views, **options):
        raise Asked(options)

    monkeypatch.setattr(ours, "Loader", refuse)
    with pytest.raises(Asked) as asked:
        next(ours.batches(Job("ours", str(drawn), 2, 5, device)))
    options = asked.value.args[0]
    assert (options["config"].dtype, options["config"].threads, options["device"]) == (dtype, 5, device)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("cuda", torch.float16)])
def test_random_batches_are_what_the_loader_would_hand_over(device, dtype, monkeypatch):
    """Drawn on this machine's device whatever the engine calls its own."""
    generator, randn = torch.Generator, torch.randn
    monkeypatch.setattr(torch, "Generator", lambda _device: generator())
    monkeypatch.setattr(torch, "randn", lambda *shape, device, **how: randn(*shape, **how))
    views = peer().loader_job().views
    engine = SimpleNamespace(device=torch.device(device), micro_batch=3)
    batch = no_loader.random_batch(SimpleNamespace(engine=engine, method=SimpleNamespace(views=lambda: views)))
    assert {name: (tuple(c.shape), c.dtype) for name, c in batch.crops.items()} == {
        g.name: ((g.views, 3, 3, g.size, g.size), dtype) for g in views
    }


@pytest.mark.parametrize(("device", "side"), [("cpu", 1024), ("cuda", 8192)])
def test_the_product_of_matrices_has_the_side_that_its_rate_is_counted_for(device, side, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "randn", lambda *shape, **how: asked.append((shape, how["dtype"])) or 1)
    monkeypatch.setattr(work, "clocked", lambda *_, **__: SimpleNamespace(median_ms=2.0))
    assert work.matmul_tflops(torch.device(device), "bf16") == 2 * side**3 / 2.0 / 1e9
    assert asked == [((side, side), torch.bfloat16)] * 2


@pytest.mark.parametrize(("device", "decoder", "dtype"), [("cpu", "cpu", "FLOAT"), ("cuda", "mixed", "FLOAT16")])
def test_dalis_own_reader_decodes_on_the_gpu_and_delivers_half_precision(device, decoder, dtype, drawn, monkeypatch):
    from nvidia.dali import fn, types

    seen: dict[str, set] = {"decoder": set(), "dtype": set()}
    decode, normalize, graph = fn.decoders.image, fn.crop_mirror_normalize, dali_webdataset._graph
    pipelines = []

    class Built(Exception):
        pass

    def image(jpeg, device, **how):
        seen["decoder"].add(device)
        return decode(jpeg, device="cpu", **how)

    def normalized(image, dtype, **how):
        seen["dtype"].add(dtype)
        return normalize(image, dtype=types.DALIDataType.FLOAT, **how)

    def built(*arguments, **how):
        pipelines.append(how)
        graph(*arguments, **how | {"device_id": None, "exec_dynamic": False})
        raise Built

    monkeypatch.setattr(fn.decoders, "image", image)
    monkeypatch.setattr(fn, "crop_mirror_normalize", normalized)
    monkeypatch.setattr(dali_webdataset, "_graph", built)
    with pytest.raises(Built):
        next(dali_webdataset.batches(Job("DALI readers.webdataset, random inside", str(drawn), 2, 7, device)))
    assert seen == {"decoder": {decoder}, "dtype": {getattr(types.DALIDataType, dtype)}}
    (how,) = pipelines
    assert (how["num_threads"], how["prefetch_queue_depth"], how["exec_dynamic"]) == (7, 2, device == "cuda")
    assert how["device_id"] == (0 if device == "cuda" else None)


def test_a_sweeps_threads_are_the_workers_of_its_process(monkeypatch):
    asked = []
    monkeypatch.setattr(
        loader, "in_a_process", lambda _m, given, _s: asked.append(json.loads(given[0])) or {"can_not": ""}
    )
    job = Job("ours", "d", 2, 16, "cuda")
    for settings in ({"threads": 4}, {"prefetch": 3}):
        loader.measure(replace(job, settings=settings), 1.0)
    assert [(each["workers"], each["settings"]) for each in asked] == [(4, {}), (16, {"prefetch": 3})]


def test_a_loaders_readings_are_of_the_gpu_that_torch_uses(monkeypatch):
    """Not of the first one as the driver counts; with its joules."""
    asked, real = [], of_loader.gpu_sampler
    monkeypatch.setattr("skill_fast.telemetry.nvml.pynvml", nvml_stub)
    monkeypatch.setattr(of_loader, "gpu_sampler", lambda device: asked.append(device) or real("cpu"))
    monkeypatch.setattr(of_loader, "settle", lambda _device: None)
    monkeypatch.setattr(of_loader, "gate", lambda *_: None)
    module = SimpleNamespace(batches=lambda _job: itertools.repeat(Crops({})))
    monkeypatch.setattr(of_loader, "importlib", SimpleNamespace(import_module=lambda _name: module))
    found = of_loader.measure(Job("ours", "d", 4, 1, "cuda"), 0.3)
    assert asked == ["cuda"] and found["power_w"] == nvml_stub.POWER_W
    assert found["joules_per_1000_photographs"] > 0 and found["gpu_samples"][0]["at_s"] == 0
    made = loader._figures([found, found], 1.0)
    assert made["gpu_samples"] == found["gpu_samples"] and made["batches"] == found["batches"]


STEPS = {
    "base": ({}, True),
    "compile off, backend reference, garbage collected by Python": ({"compile": "off", "backend": "reference"}, False),
    "stage 0": ({"stage": 0}, True),
    "stage 1, batch 8": ({"stage": 1, "batch": 8}, True),
    "packed": ({"packed": True}, True),
}


def test_every_kind_of_step_is_built_and_measured(tmp_path):
    """In one process, on a toy; Python's own collection is as the row has it while the steps are timed."""
    command = [sys.executable, "-m", "tests.benchmarks.step_worker", json.dumps(STEPS)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name, (changed, by_hand) in STEPS.items():
        found = told[name]
        assert found["collecting"] == [not by_hand], name
        assert found["products_per_s"] > 0 and found["steps"] == 8 and not found["steps_not_applied"]
        assert found["power_w"] == nvml_stub.POWER_W and found["joules_per_1000_photographs"] > 0
        assert "data_wait_share" not in found and found["levers"] == {**found["levers"], **changed}
    assert told["vit_base"] == {"dim": 768, "depth": 12, "views": [[2, 224], [8, 96]]}
