"""LARS under DeepSpeed at stage 0, in fp32 and bf16, beside its update in float64. Started by test_lars.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from skill_fast.engine.deepspeed_engine import build_engine, init_distributed
from skill_fast.engine.lars import TRUST
from tests.engine.toy import Toy, ds_config

LR, DECAY, MOMENTUM, STEPS = 0.3, 0.01, 0.9, 5


def expected_after(start: dict, gradients: list[dict]) -> dict[str, torch.Tensor]:
    """LARS (You et al. 2017) in float64: momentum over trust-scaled gradients; 1-d weights neither decay nor scale."""
    weights = {name: value.double() for name, value in start.items()}
    moments: dict[str, torch.Tensor] = {}
    for step in gradients:
        for name, gradient in step.items():
            w, g = weights[name], gradient.double()
            if w.ndim > 1:
                trust = TRUST * w.norm() / (g.norm() + DECAY * w.norm() + 1e-8)
                g = (g + DECAY * w) * trust
            moments[name] = g if name not in moments else MOMENTUM * moments[name] + g
            weights[name] = w - LR * moments[name]
    return weights


def run(precision: str, spoil_at: int) -> dict[str, object]:
    torch.manual_seed(0)
    config = ds_config(0, precision) | {"gradient_clipping": 0.0}
    engine = build_engine(Toy(), config, betas=(MOMENTUM, 0.999), lars=True)
    masters = {}
    for group in engine.flat_groups:
        masters |= {engine.names[p]: v for p, v in zip(group.params, group.views(group.fp32_shard))}
    start = {name: value.detach().clone() for name, value in masters.items()}
    gradients, applied = [], []
    for step in range(STEPS):
        engine.set_schedules(lr=LR, weight_decay=DECAY)
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(engine.micro_batch, 7, generator=generator).to(engine.dtype)
        loss = engine(x).float().square().mean() * (float("nan") if step == spoil_at else 1)
        engine.backward(loss)
        found = {engine.names[p]: p.grad.clone() for p in engine.names if p.grad is not None}
        engine.step()
        applied.append(bool(engine.finite))
        if step != spoil_at:
            gradients.append(found)
    expected = expected_after(start, gradients)
    error = max(float((masters[name].double() - expected[name]).abs().max()) for name in expected)
    moved = max(float((expected[name] - start[name].double()).abs().max()) for name in expected)
    return {"precision": precision, "error": error, "moved": moved, "applied": applied}


if __name__ == "__main__":
    init_distributed()
    Path(sys.argv[1]).write_text(json.dumps([run("fp32", spoil_at=2), run("bf16", spoil_at=2)]))
