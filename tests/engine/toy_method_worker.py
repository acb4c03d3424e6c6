"""A method of one's own in 40 lines, trained by train.py: what docs/methods.md promises. Started by test_adding.py."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch

from skill_fast import train
from skill_fast.config import Command
from skill_fast.methods import METHODS
from skill_fast.models.siamese import Siamese
from skill_fast.models.vit import build_backbone
from skill_fast.presets import PRESETS
from skill_fast.telemetry.collapse import unit_std


# begin of the method
class Whitened:
    """Two views agree while every dimension keeps a variance of 1: VICReg's first two terms, without a teacher."""

    has_teacher = False
    constant_lr = ()

    def __init__(self, config, backbone, head, views, *, seed):
        self.views_config, self.image_size = views, backbone.image_size
        self.student = Siamese(build_backbone(backbone, seed=seed), torch.nn.Identity())
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def views(self):
        return self.views_config.global_groups(self.image_size)

    def batches(self):
        return None

    def to(self, device):
        pass

    def loss(self, student, crops, teacher_temp, labels=None):
        first, second = student(crops["global"]).float()
        apart = (first - second).square().mean()
        narrow = sum(torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (first, second))
        loss = apart + narrow
        return loss, {"loss": loss.detach()}

    def reduce(self):
        pass

    def commit(self, finite):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


METHODS["whitened"] = Whitened
# end of the method


class Dead(Whitened):
    """The same with weights of 0, which have no gradient: an encoder that gives 0 whatever it sees."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        for network in (self.student, self.teacher):
            for weight in network.parameters():
                torch.nn.init.zeros_(weight)

    def loss(self, student, crops, teacher_temp, labels=None):
        loss, logged = super().loss(student, crops, teacher_temp, labels)
        with torch.no_grad():
            return loss, logged | {"projection_std": unit_std(self.student(crops["global"])[0])}


def main(data: str, out: str, ds_config: str, dead: str = "", watch_every: str = "10") -> None:
    if dead:
        METHODS["whitened"] = Dead
    demo = PRESETS["demo"]
    backbone = replace(demo.backbone, image_size=32, embed_dim=24, depth=1, num_heads=2)
    config = replace(demo, method="whitened", data=data, out=out, steps=30, backbone=backbone, evaluate=False)
    config = replace(config, log_every=10, watch_every=int(watch_every), watch_products=16)
    train.start(Command(config, "whitened", Path(ds_config), fresh=False, allow_change=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
