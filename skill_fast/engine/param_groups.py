"""Which parameters decay, which do not, and which belong to the head's last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from skill_fast.errors import BadUsage

LAST_LAYER = "last_layer"
CONSTANT_LR = "constant_lr"


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate and a weight decay, with their names in the module."""

    name: str
    """'decay', 'last_layer' or 'constant_lr', or the same with '_no_decay' ('no_decay' for the first)."""
    names: tuple[str, ...]
    params: tuple[nn.Parameter, ...]

    @property
    def decays(self) -> bool:
        return not self.name.endswith("no_decay")

    def for_optimizer(self) -> dict[str, Any]:
        """The dictionary that torch.optim takes; ``name`` and ``decays`` are read back by ``Engine.set_schedules``."""
        return {"params": list(self.params), "name": self.name, "decays": self.decays, "weight_decay": 0.0}


def param_groups(
    module: nn.Module, last_layer: Sequence[str] = (LAST_LAYER,), constant_lr: Sequence[str] = ()
) -> list[ParamGroup]:
    """Split a module's trainable parameters into at most six groups; every one stands in exactly one of them.

    No weight decay on biases, norms and whatever else has fewer than two dimensions. A parameter whose name has a
    dotted component in ``last_layer`` goes to the last layer's group, so that ``freeze_last_layer`` can hold it still;
    one with a component in ``constant_lr`` to those whose rate stays at its peak (SimSiam's predictor).
    Order inside a group is the module's own; empty groups are left out. Source: DINO, main_dino.get_params_groups.
    """
    members: dict[str, list[tuple[str, nn.Parameter]]] = {
        "decay": [],
        "no_decay": [],
        LAST_LAYER: [],
        "last_layer_no_decay": [],
        CONSTANT_LR: [],
        "constant_lr_no_decay": [],
    }
    for name, param in module.named_parameters():
        if not param.requires_grad:
            continue
        parts, flat = name.split("."), param.ndim < 2
        if any(part in last_layer for part in parts):
            group = "last_layer_no_decay" if flat else LAST_LAYER
        elif any(part in constant_lr for part in parts):
            group = "constant_lr_no_decay" if flat else CONSTANT_LR
        else:
            group = "no_decay" if flat else "decay"
        members[group].append((name, param))
    if not any(members.values()):
        raise BadUsage(
            "the model has no parameter to train",
            allowed="at least one parameter with requires_grad",
            change="what was frozen",
        )
    return [
        ParamGroup(group, tuple(name for name, _ in pairs), tuple(param for _, param in pairs))
        for group, pairs in members.items()
        if pairs
    ]
