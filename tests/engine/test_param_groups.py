from __future__ import annotations

import pytest
import torch
from torch import nn

from skill_fast.engine.param_groups import param_groups
from skill_fast.errors import BadUsage


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
        self.block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Conv2d(3, 8, 2))
        self.gain = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)
        self.head = nn.ModuleDict({"mlp": nn.Linear(8, 4), "last_layer": nn.Linear(4, 9)})
        self.last_layers = nn.Linear(2, 2, bias=False)  # not a component named last_layer


def test_groups_are_complete_disjoint_and_by_dimension() -> None:
    student = Student()
    groups = {group.name: group for group in param_groups(student)}
    assert {name: group.names for name, group in groups.items()} == {
        "decay": ("pos_embed", "block.0.weight", "block.2.weight", "head.mlp.weight", "last_layers.weight"),
        "no_decay": ("gain", "block.0.bias", "block.1.weight", "block.1.bias", "block.2.bias", "head.mlp.bias"),
        "last_layer": ("head.last_layer.weight",),
        "last_layer_no_decay": ("head.last_layer.bias",),
    }
    named = dict(student.named_parameters())
    seen = [name for group in groups.values() for name in group.names]
    assert sorted(seen) == sorted(name for name in named if name != "frozen")
    for group in groups.values():
        assert all(named[name] is param for name, param in zip(group.names, group.params))
    assert [group.decays for group in groups.values()] == [True, False, True, False]


def test_torch_takes_the_groups() -> None:
    groups = param_groups(Student())
    optimizer = torch.optim.AdamW([group.for_optimizer() for group in groups], lr=0.0)
    assert [group["name"] for group in optimizer.param_groups] == [group.name for group in groups]
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)  # until the schedule says otherwise


def test_empty_groups_are_left_out() -> None:
    assert [group.name for group in param_groups(nn.Linear(2, 2, bias=False))] == ["decay"]


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(BadUsage, match="no parameter to train"):
        param_groups(nn.Linear(2, 2).requires_grad_(False))
