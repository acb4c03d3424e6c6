"""A student small enough to check by hand, with sizes that make every flat group need padding."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from skill_fast.engine.deepspeed_engine import build_engine
from skill_fast.engine.student import Engine
from skill_fast.engine.teacher import ShardedTeacher


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 13)
        self.norm = nn.LayerNorm(13)
        self.middle = nn.Linear(13, 11)
        self.last_layer = nn.Linear(11, 5, bias=False)
        self.fixed = nn.Parameter(torch.full((3,), 0.7), requires_grad=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.last_layer(torch.tanh(self.middle(self.norm(self.first(x))))) * self.fixed[0]


def ds_config(stage: int, precision: str, offload: bool = False, **more: Any) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        more["zero_force_ds_cpu_optimizer"] = False
    config = {"train_batch_size": 4, "gradient_clipping": 3.0, "zero_optimization": zero, **more}
    if precision != "fp32":
        config[precision] = {"enabled": True}
    return config


def build(config: dict[str, Any], seed: int = 0) -> tuple[Engine, ShardedTeacher]:
    torch.manual_seed(seed)
    student = Toy()
    teacher = copy.deepcopy(student)
    engine = build_engine(student, config)
    return engine, ShardedTeacher(engine, teacher)


def train_step(engine: Engine, step: int, lr: float = 1e-2, decay: float = 0.1, spoil: bool = False) -> float:
    """One optimizer step on data that is a pure function of (step, rank); returns the loss."""
    engine.set_schedules(lr=lr, weight_decay=decay)
    generator = torch.Generator().manual_seed(1000 * step + engine.rank)
    for _ in range(engine.micro_steps):
        x = torch.randn(engine.micro_batch, 7, generator=generator).to(engine.device, engine.dtype)
        y = torch.randn(engine.micro_batch, 5, generator=generator).to(engine.device)
        loss = (engine(x).float() - y).square().mean()
        engine.backward(loss * float("nan") if spoil else loss)
        engine.step()
    return float(loss.detach())
