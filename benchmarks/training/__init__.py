"""A real run of train.py with one setting of its levers, built to be stepped and timed by ``benchmarks.train``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skill_fast.config import Config, parse
from skill_fast.data.index import open_index
from skill_fast.engine.deepspeed_engine import init_distributed
from skill_fast.engine.ds_config import load_ds_config
from skill_fast.engine.loop import Run
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder
from skill_fast.train import build

DS_CONFIGS = Path(__file__).parents[2] / "ds_configs"
MODELS: dict[str, Sequence[str]] = {
    "vit_small": ("--preset", "skill_vit_small"),
    "vit_base": ("--preset", "skill_vit_base"),
    "small_crops": (
        *("--preset", "skill_vit_small", "--backbone.name", "vit_tiny_patch16_224", "--backbone.image-size", "96"),
        *("--backbone.depth", "4", "--views.local-crops", "2", "--views.local-size", "48"),
        *("--head.prototypes", "4096", "--head.hidden", "512"),
        *("--backbone.init", "fan_in", "--head.init", "fan_in"),  # timm's 0.02 stalls at this width
    ),
    "toy": (
        *("--preset", "skill_vit_small", "--backbone.name", "vit_tiny_patch16_224", "--backbone.image-size", "32"),
        *("--backbone.patch-size", "8", "--backbone.embed-dim", "48", "--backbone.depth", "2"),
        *("--backbone.num-heads", "3", "--backbone.init", "fan_in", "--views.local-crops", "2"),
        *("--views.local-size", "16", "--head.prototypes", "257", "--head.hidden", "32", "--head.bottleneck", "16"),
        *("--head.init", "fan_in", "--backbone.drop-path", "0"),
    ),
}
"""By name, what train.py is told: a preset or a smaller version of one. ``small_crops``, for CPUs: a ViT of width 192
and depth 4 with 2 x 96 + 2 x 48 crops. ``toy`` is for tests."""
STEPS = 100_000
"""Length of the course: longer than any measurement."""


@dataclass(frozen=True)
class Setting:
    """The levers of one run; a sweep changes one of them at a time."""

    model: str = "vit_small"
    batch: int = 256
    precision: str = "bf16"
    stage: int = 2
    compile: str = "auto"
    backend: str = "auto"
    """Of the kernels."""
    packed: bool = False
    gradient_checkpointing: bool = False
    drop_path_by_subset: bool = False
    recipes: str = "by_type"

    def arguments(self) -> list[str]:
        """train.py's command line, without data and run folder."""
        flags = ("packed", "gradient_checkpointing", "drop_path_by_subset")
        on = [f"--speed.{name.replace('_', '-')}" for name in flags if getattr(self, name)]
        chosen = ["--speed.compile", self.compile, "--speed.kernels", self.backend, "--loader.recipes", self.recipes]
        return [*MODELS[self.model], *chosen, *on, "--steps", str(STEPS), "--no-evaluate"]

    def ds_config(self) -> dict[str, Any]:
        """The file of ds_configs/ for the ZeRO stage, with this precision and batch."""
        found = load_ds_config(DS_CONFIGS / f"zero{self.stage}.json") | {"train_batch_size": self.batch}
        del found["bf16"]
        if self.precision != "fp32":
            suffix = "_fp16" if self.precision == "fp16" else ""
            found[self.precision] = load_ds_config(DS_CONFIGS / f"zero{self.stage}{suffix}.json")[self.precision]
        return found

    def config(self, data: str, out: str, loader: dict[str, Any] | None = None) -> Config:
        """loader: fields of ``LoaderConfig`` that the machine decides, such as its threads."""
        config = parse([*self.arguments(), "--data", data, "--out", out], PRESETS).config
        return replace(config, loader=replace(config.loader, **(loader or {})))


@dataclass(frozen=True)
class Job:
    """One setting to be measured in a process of its own."""

    setting: Setting
    data: str
    seconds: float
    """Of each row, at least."""
    loader: dict[str, Any] = field(default_factory=dict)
    only_total: bool = False
    """No rows whose batches do not come from the loader."""

    def text(self) -> str:
        """As a command line carries it."""
        return json.dumps(self, default=vars)

    @staticmethod
    def of(text: str) -> Job:
        found = json.loads(text)
        return Job(**(found | {"setting": Setting(**found["setting"])}))


def build_run(setting: Setting, data: str, out: Path, loader: dict[str, Any] | None = None) -> tuple[Config, Run]:
    """What ``train.start`` builds before its first step. Raises BadUsage for levers that this machine lacks."""
    folder = RunFolder(out, rank=init_distributed()[0])
    folder.open(fresh=True)
    config = setting.config(data, str(out), loader)
    return config, build(config, setting.ds_config(), open_index(data), folder)
