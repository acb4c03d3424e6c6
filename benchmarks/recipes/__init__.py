"""Other people's ways to train the same model on the same crops, which ``benchmarks.peers`` compares ours with.

A module a recipe, with ``make(job, networks) -> step`` and ``step(crops) -> loss``, a scalar on the device; a call is
one optimizer step and one update of the teacher. Crops come from a module of ``benchmarks.loaders``, or from
``batches(job)`` beside ``make`` where a recipe has a loader of its own. Each is written from the published description
or the library's documentation; none is the authors' code.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.loaders import Job as LoaderJob
from benchmarks.training import Setting
from skill_fast.config import Config
from skill_fast.models.heads import DistillationHead, MultiCrop
from skill_fast.models.vit import build_backbone, prepare_for

STUDENT_TEMP, TEACHER_TEMP, CENTER_MOMENTUM, EMA_MOMENTUM = 0.1, 0.04, 0.9, 0.996
LR, WEIGHT_DECAY, CLIP = 5e-4, 0.04, 3.0
"""Constant: what a schedule costs is a look-up."""
MOST_WORKERS = 16


@dataclass(frozen=True)
class Recipe:
    """step: module of this package. loader: module that has ``batches``."""

    step: str
    loader: str
    compiled: bool = False


RECIPES = {
    "original DINO recipe": Recipe("original_dino", "benchmarks.loaders.torchvision_pil"),
    "ours": Recipe("ours", "benchmarks.recipes.ours"),
    "kornia on batches, eager step": Recipe("plain_dino", "benchmarks.loaders.kornia_batches"),
    "lightly": Recipe("lightly_dino", "benchmarks.recipes.lightly_dino"),
    "DALI readers.webdataset, eager step": Recipe("plain_dino", "benchmarks.loaders.dali_webdataset"),
    "DALI readers.webdataset, compiled step": Recipe("plain_dino", "benchmarks.loaders.dali_webdataset", compiled=True),
}
"""In the order of measurement: what a short budget leaves is the ratio of ours to the base."""
BASE = "original DINO recipe"


@dataclass(frozen=True)
class Job:
    """One recipe to be measured: the model, crops, batch and data that all of them share."""

    name: str
    setting: Setting
    data: str
    workers: int
    device: str
    seconds: float

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.name]

    @property
    def config(self) -> Config:
        return self.setting.config(self.data, "unused")

    def loader_job(self) -> LoaderJob:
        """The same crops, as ``benchmarks.loaders`` takes them."""
        views = self.config.views
        sizes = (self.config.backbone.image_size, views.local_size, views.local_crops)
        return LoaderJob("", self.data, self.setting.batch, self.workers, self.device, 0, {}, *sizes)

    def text(self) -> str:
        return json.dumps(self, default=vars)

    @staticmethod
    def of(text: str) -> Job:
        found = json.loads(text)
        return Job(**(found | {"setting": Setting(**found["setting"])}))


@dataclass(frozen=True)
class Networks:
    """Student and teacher, fp32 on the device: the modules that ours trains, timm's backbone and DINO's head."""

    student: MultiCrop
    teacher: MultiCrop
    prototypes: int


def networks(job: Job) -> Networks:
    config = job.config
    device = torch.device(job.device)

    def built(drop_path: float | None) -> MultiCrop:
        backbone = build_backbone(config.backbone, drop_path=drop_path, seed=config.seed)
        torch.manual_seed(config.seed + 1)  # as methods/skill.py draws the head
        head = DistillationHead(int(backbone.num_features), config.head)  # type: ignore[arg-type]
        return prepare_for(MultiCrop(backbone, head), device).to(device)  # type: ignore[return-value]

    teacher = built(0.0).requires_grad_(False)
    return Networks(built(None), teacher, config.head.prototypes)


def adamw(student: nn.Module) -> torch.optim.AdamW:
    """DINO's optimizer as torch builds it by default: no decay on biases, norms and other 1-d parameters."""
    groups = [
        {"params": [p for p in student.parameters() if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in student.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR)


def mixed_precision(job: Job) -> Any:
    """bf16 or fp16 by autocast over fp32 weights, as recipes without DeepSpeed do it; nothing in fp32."""
    if job.setting.precision == "fp32":
        return nullcontext()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[job.setting.precision]
    return torch.autocast(job.device, dtype)
