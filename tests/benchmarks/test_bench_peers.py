"""Other people's recipes: that each computes DINO's loss on the same crops with the same weights, and trains."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from itertools import repeat

import pytest
import torch

from benchmarks import peers, recipes
from benchmarks.loaders import BASE as LOADER_BASE
from benchmarks.loaders import CONTENDERS, Crops
from benchmarks.loaders.window import LEAST_BATCHES
from benchmarks.recipes import BASE, RECIPES, Job, networks
from benchmarks.recipes import __main__ as timing
from benchmarks.recipes import ours as our_recipe
from benchmarks.recipes.__main__ import gate, parts
from benchmarks.recipes.original_dino import LoopLoss, average, clip_each
from benchmarks.training import Setting
from skill_fast.data.calibration import calibrated
from skill_fast.methods import METHODS

TOY = Setting(model="toy", batch=4, precision="fp32", recipes="none")
LONG = os.environ.get("SKILL_FAST_LONG") == "1"
OTHERS = [name for name in RECIPES if name != "ours"]


@pytest.fixture(autouse=True)
def no_inductor(monkeypatch):
    """torch.compile through dynamo and autograd's tracing; the C++ that inductor writes takes a minute."""
    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: real(self, backend="aot_eager", **how))


def job(name: str, data: str = "d") -> Job:
    workers = 1 if "DALI" in name else 0  # in this process
    return Job(name, TOY, data, workers, "cpu", seconds=0.0)


def dino_loss(student, teacher, center):
    """DINO, algorithm 1, in loops and float64: mean over batch and pairs of different views."""
    terms = []
    for t in range(teacher.shape[0]):
        for s in range(student.shape[0]):
            if s == t:
                continue
            for b in range(student.shape[1]):
                q = torch.exp((teacher[t, b].double() - center.double()) / 0.04)
                p = torch.exp(student[s, b].double() / 0.1)
                terms.append(-(q / q.sum() * torch.log(p / p.sum())).sum())
    return torch.stack(terms).mean()


def test_the_loop_loss_its_gradient_and_center_are_the_papers():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 3, 17, generator=generator).requires_grad_()
    teacher = 0.1 * torch.randn(2, 3, 17, generator=generator)
    loss_of = LoopLoss(17)
    loss_of.center.copy_(0.05 * torch.randn(1, 17, generator=generator))
    center = loss_of.center.clone()
    loss = loss_of(student, teacher)
    expected = dino_loss(student, teacher, center[0])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    got, wanted = (torch.autograd.grad(value, student)[0] for value in (loss, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss_of.center, 0.9 * center + 0.1 * teacher.mean((0, 1), keepdim=True)[0])


def test_the_loops_over_parameters_clip_and_average_each():
    student, teacher = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = teacher.weight.detach().clone()
    average(teacher, student)
    torch.testing.assert_close(teacher.weight, 0.996 * before + 0.004 * student.weight)
    student.weight.grad, student.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.1)
    clip_each(student)
    assert student.weight.grad.norm().item() == pytest.approx(3.0, rel=1e-5)
    assert student.bias.grad.tolist() == pytest.approx([0.1, 0.1])


def test_networks_are_those_that_ours_begins_with():
    config = TOY.config("d", "o")
    ours = METHODS["skill"](config.skill, config.backbone, config.head, config.views, seed=config.seed)
    theirs = networks(job("lightly"))
    for mine, other in ((ours.student, theirs.student), (ours.teacher, theirs.teacher)):
        expected, got = mine.state_dict(), other.state_dict()
        assert list(got) == list(expected) and all(torch.equal(got[name], expected[name]) for name in got)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", OTHERS)
def test_every_recipes_first_loss_is_the_papers_and_its_first_step_moves_student_and_center(name):
    generator = torch.Generator().manual_seed(1)
    crops = {
        "global": torch.randn(2, 4, 3, 32, 32, generator=generator),
        "local": torch.randn(2, 4, 3, 16, 16, generator=generator),
    }
    built = networks(job(name))
    with torch.no_grad():
        logits = built.student(crops["global"], crops["local"])
        expected = dino_loss(logits, built.teacher(crops["global"]), torch.zeros(built.prototypes))
    first = [parameter.detach().clone() for parameter in built.student.parameters()]
    step = import_module(f"benchmarks.recipes.{RECIPES[name].step}").make(job(name), built)
    loss = step(crops)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    moved = [not torch.equal(a, b) for a, b in zip(first, built.student.parameters())]
    assert all(moved), "a parameter got no gradient"
    assert float(step(crops)) != float(loss)


@pytest.mark.parametrize("name", [name for name in OTHERS if "compiled" not in name or LONG])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_every_recipe_passes_its_gate_on_photographs(name, drawn, tmp_path):
    torch.manual_seed(0)
    batches, step, _ = parts(job(name, str(drawn)), tmp_path)
    losses = gate(next(batches), step, job(name, str(drawn)))
    assert len(losses) == 6 and min(losses) < losses[0] - 0.01
    batches.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_step_that_does_not_learn_is_refused(drawn, tmp_path, monkeypatch):
    """The center moves, the student does not."""
    monkeypatch.setattr(recipes, "LR", 0.0)
    torch.manual_seed(0)
    batches, step, _ = parts(job(BASE, str(drawn)), tmp_path)
    with pytest.raises(AssertionError, match="does not fall"):
        gate(next(batches), step, job(BASE, str(drawn)))
    batches.close()


def crops_of(groups) -> Crops:
    torch.manual_seed(0)
    return Crops({g.name: 2 * torch.randn(g.views, 4, 3, g.size, g.size).clamp(-1, 1) for g in groups})


def test_the_gate_refuses_losses_that_do_not_fall_or_are_not_finite():
    here = job("ours")
    crops = crops_of(here.loader_job().views)
    gate(crops, iter_of([5.0, *[4.0] * 5]), here)
    for losses, said in (([5.0] * 6, "does not fall"), ([5.0, float("nan"), *[4.0] * 4], "losses")):
        with pytest.raises(AssertionError, match=said):
            gate(crops, iter_of(losses), here)


def iter_of(losses):
    given = iter(losses)
    return lambda _crops: torch.tensor(next(given))


def test_the_command_compares_within_a_round_and_says_what_can_not(drawn, tmp_path, monkeypatch):
    """``ours`` and the original in processes of their own; lightly is made to be missing."""
    real = peers.measure
    monkeypatch.setattr(peers, "measure", lambda j: {"can_not": "no lightly"} if j.name == "lightly" else real(j))
    out = tmp_path / "records.jsonl"
    options = ["--data", str(drawn), "--model", "toy", "--batch", "4", "--precision", "fp32", "--workers", "1"]
    options += ["--seconds", "0", "--repeats", "1", "--rows", BASE, "lightly", "ours", "--out", str(out)]
    assert peers.main(options) == 0
    original, lightly, ours = (json.loads(line) for line in out.read_text().splitlines())
    assert [r["what"] for r in (original, lightly, ours)] == [f"peers/{name}" for name in (BASE, "lightly", "ours")]
    assert lightly["value"] is None and lightly["can_not"] == "no lightly" and "ratio" not in lightly
    assert original["ratio"] == 1.0 and ours["ratio"] == ours["value"] / original["value"]
    for record in (original, ours):
        assert record["gate_losses"][1] < record["gate_losses"][0] and record["step_ms"]["p50"] > 0
        assert record["kept_equal"] and record["not_equal"] and record["crops"] == {"global": [2, 32], "local": [2, 16]}
        assert 0 < record["data_wait_share"] < 1 and record["commit"]
        assert record["photographs_per_s"] == 2 * record["value"] and record["of_matmul"] > 0 and record["mfu"] is None
    assert (ours["loader"]["threads"], ours["loader"]["prefetch"], ours["workers"]) == (1, 2, 1)


def test_ratios_are_medians_of_rounds():
    small = {"model": "toy", "batch": 4, "precision": "fp32", "workers": 1, "device": "cpu", "seconds": 1}
    todo = peers.jobs(Namespace(rows=[BASE, "ours"], data="d", **small))
    made = peers.records(todo, [[rate(10), rate(20), rate(30)], [rate(15), rate(24), rate(33)]], photographs=9)
    assert (made[1]["value"], made[1]["ratio"], made[1]["ratios"]) == (24, 1.2, [1.1, 1.5])
    per_s = [made[1][f"{name}_per_s"] for name in ("photographs", "megapixels", "crops", "tokens")]
    assert per_s == [48, 24, 96, 264]
    assert (made[1]["tflops"], made[1]["mfu"], made[1]["of_matmul"]) == pytest.approx((0.096, 0.25, 0.5))


def test_what_a_short_budget_measures_is_ours_beside_the_base():
    assert list(RECIPES)[:2] == [BASE, "ours"]
    assert list(CONTENDERS)[:2] == ["ours", LOADER_BASE]


def test_our_loader_has_what_the_others_have_and_the_record_says_it(drawn, tmp_path, monkeypatch):
    """Also where train.py would calibrate it."""
    given = []
    monkeypatch.setattr(our_recipe, "build_run", lambda *arguments: (given.append(arguments[3]), None))
    for device in ("cpu", "cuda"):
        our_recipe.built(replace(job("ours"), device=device, workers=7), tmp_path)
    assert given == [{"threads": 7, "calibrate": "off", "prefetch": 2, "hw_decoder_load": 0.65}] * 2
    config = TOY.config("d", "o", given[0])
    settled = calibrated(None, [], config.loader, device="cuda")  # measures nothing
    assert settled.rates == () and settled.config.settings() == (7, 2, 0.65)


def rate(products_per_s: float) -> dict:
    about = {"flops_a_product": {"teacher": 1e9, "student": 3e9}, "tokens_a_product": {"student": 9, "teacher": 2}}
    about |= {"crops": {"global": [2, 32], "local": [2, 16]}, "megapixels_a_photograph": 0.5}
    return {"products_per_s": products_per_s, "steps": 3, "peak_tflops": 0.384, "matmul_tflops": 0.192, **about}


def test_the_clock_starts_when_the_device_is_idle_and_stops_when_it_is_again(tmp_path, monkeypatch):
    """A device that runs behind: what the warm-up queued is done before the first moment, what was timed before the
    last reading of the clock.
    """
    told: list[str] = []
    queued: list[int] = []

    def step(_crops):
        queued.append(1)
        told.append("step")
        return torch.tensor(1.0)

    def endless():
        yield from repeat(Crops({}))

    def synchronize(_device=None):
        queued.clear()
        told.append("idle")

    def mark(_device):
        told.append("moment" if queued else "moment of an idle device")
        return float(len(told))

    def cpu_s():
        told.append("clock, kernels queued" if queued else "clock")
        return 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    replaced = {"moment": mark, "_cpu_s": cpu_s, "gate": lambda *_: (step(None), [2.0, 1.0])[1]}
    replaced |= {"parts": lambda *_: (endless(), step, {}), "gpu_sampler": lambda _: nullcontext()}
    replaced |= {"memory_fields": lambda _: {}, "gpu_fields": lambda *_: {}, "of_run": lambda *_: {}}
    replaced |= {"megapixels_a_photograph": lambda _: 1.0, "open_index": lambda _: None}
    for name, stub in replaced.items():
        monkeypatch.setattr(timing, name, stub)
    found = timing.measure(replace(job("lightly"), device="cuda"), tmp_path)
    assert found["steps"] == LEAST_BATCHES
    warm_up = told.index("moment of an idle device")
    assert told[:warm_up] == ["step"] * (1 + timing.WARM_UP) + ["idle"]
    assert told[warm_up + 1 :] == ["clock", *["step", "moment"] * LEAST_BATCHES, "idle", "clock"]
