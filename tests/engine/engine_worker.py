"""Schedules, the frozen last layer, steps that are not applied and refusals on a real engine; see test_engine.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from skill_fast.engine.deepspeed_engine import build_engine, init_distributed, leave
from skill_fast.errors import BadUsage, NotFinite
from tests.engine.toy import Toy, ds_config, train_step


def plain_adamw(steps: int) -> dict[str, torch.Tensor]:
    """The definition: AdamW by hand in float64 on the toy's fp32 gradients, with clipping of the global norm."""
    torch.manual_seed(0)
    toy = Toy()
    named = {name: p for name, p in toy.named_parameters() if p.requires_grad}
    first = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in named.items()}
    second = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in named.items()}
    for step in range(steps):
        generator = torch.Generator().manual_seed(1000 * step)
        x, y = torch.randn(4, 7, generator=generator), torch.randn(4, 5, generator=generator)
        grads = torch.autograd.grad((toy(x) - y).square().mean(), list(named.values()))
        norm = sum(float(g.double().square().sum()) for g in grads) ** 0.5
        for (name, p), g in zip(named.items(), grads):
            g = g.double() * min(1.0, CLIP / (norm + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            decay = DECAY if p.ndim > 1 else 0.0
            p.data = (p.double() * (1 - LR * decay) - LR * m / (v.sqrt() + 1e-8)).float()
    return {name: p.detach().double() for name, p in named.items()}


CLIP, LR, DECAY = 0.5, 1e-2, 0.1


def trained(config: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    engine = build_engine(Toy(), config | {"gradient_clipping": CLIP})
    norms = []
    for step in range(5):
        train_step(engine, step, lr=LR, decay=DECAY)
        norms.append(float(engine.grad_norm))
    expected = plain_adamw(5)
    found = {n: p.detach() for n, p in engine.module.named_parameters() if p.requires_grad}
    error = max(float((found[name].double() - expected[name]).abs().max()) for name in expected)
    return {"error": error, "norms": norms} | frozen(engine) | spoiled(engine)


def frozen(engine: Any) -> dict[str, Any]:
    names = ("last_layer.weight", "first.weight")
    before = {name: dict(engine.module.named_parameters())[name].detach().clone() for name in names}

    def moved() -> list[bool]:
        now = dict(engine.module.named_parameters())
        return [not torch.equal(before[name], now[name]) for name in names]

    told = {}
    for freeze in (True, False):
        real = engine.set_schedules
        engine.set_schedules = lambda lr, weight_decay, f=freeze, r=real: r(lr, weight_decay, freeze_last_layer=f)
        train_step(engine, 50 + freeze, lr=LR, decay=DECAY)
        engine.set_schedules = real
        told["frozen" if freeze else "thawed"] = moved()
    engine.set_schedules(0.3, 0.2)
    told["groups"] = [[g["name"], g["lr"], g["weight_decay"]] for g in engine.optimizer_wrapper.param_groups]
    return told


def spoiled(engine: Any) -> dict[str, Any]:
    before = [p.detach().clone() for p in engine.module.parameters()]
    train_step(engine, 60, spoil=True)
    applied = [bool(engine.finite)]
    same = all(torch.equal(a, b) for a, b in zip(before, engine.module.parameters()))
    train_step(engine, 61)
    applied.append(bool(engine.finite))
    finite = all(bool(p.isfinite().all()) for p in engine.module.parameters())
    return {"applied": applied, "untouched_by_nan": same, "finite_after": finite}


def refusals() -> dict[str, str]:
    from deepspeed.accelerator import get_accelerator

    told = {}
    bad = {
        "unknown zero key": ds_config(2, "fp32", zero_optimization={"stage": 2, "overlap_com": True}),
        "stage 3": ds_config(3, "fp32"),
        "batch": ds_config(2, "fp32", gradient_accumulation_steps=3),
        "fp16 on a cpu": ds_config(2, "fp16"),
    }
    # Some CPUs do compute in fp16: this test is of those that can not.
    with mock.patch.object(get_accelerator(), "is_fp16_supported", return_value=False):
        for name, config in bad.items():
            try:
                build_engine(Toy(), config)
                told[name] = "accepted"
            except BadUsage as failure:
                told[name] = str(failure)
    return told


def fp16_at_its_floor() -> dict[str, Any]:
    """How a run in fp16 ends whose loss scale begins at its least, and whose gradients are never finite."""
    from deepspeed.accelerator import get_accelerator

    config = ds_config(2, "fp16")
    config["fp16"] |= {"initial_scale_power": 0, "min_loss_scale": 1, "hysteresis": 1}
    with mock.patch.object(get_accelerator(), "is_fp16_supported", return_value=True):
        engine = build_engine(Toy(), config)
    before = [p.detach().clone() for p in engine.module.parameters()]
    try:
        for step in range(4):
            train_step(engine, step, spoil=True)
    except NotFinite as failure:
        same = all(torch.equal(a, b) for a, b in zip(before, engine.module.parameters()))
        return {"said": str(failure), "exit_code": failure.exit_code, "untouched": same}
    return {}


def main(folder: Path) -> None:
    rank, world_size, device = init_distributed()
    if folder.name == "hello":  # only say that we are here
        (folder.parent / f"hello-{rank}").write_text(json.dumps([rank, world_size, device.type]))
    else:
        cases = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (0, "bf16"), (2, "bf16")]
        told: dict[str, Any] = {f"zero{s}-{p}": trained(ds_config(s, p)) for s, p in cases}
        told["refusals"] = refusals()
        told["fp16 at its floor"] = fp16_at_its_floor()
        (folder / "told.json").write_text(json.dumps(told))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[-1]))  # the deepspeed launcher puts --local_rank=N before it
