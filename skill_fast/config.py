"""The configuration of a run: one frozen dataclass of sections, read from the command line, saved as what ran.

Precision, ZeRO stage, communication, batch and clipping are not here: the ds_config JSON owns them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
import yaml

from skill_fast.data.cache_config import CacheConfig
from skill_fast.data.loader import LoaderConfig
from skill_fast.data.views import ViewsConfig
from skill_fast.demo import DemoConfig
from skill_fast.engine.optimizer import OptimizerConfig
from skill_fast.errors import BadUsage
from skill_fast.limits import check_limits, check_used
from skill_fast.methods.byol import ByolConfig
from skill_fast.methods.dino import DinoConfig
from skill_fast.methods.mocov2 import Mocov2Config
from skill_fast.methods.pbcnet import PbcnetConfig
from skill_fast.methods.simclr import SimclrConfig
from skill_fast.methods.simsiam import SimsiamConfig
from skill_fast.methods.skill import SkillConfig
from skill_fast.methods.triplet import TripletConfig
from skill_fast.models.heads import HeadConfig
from skill_fast.models.speed import SpeedConfig
from skill_fast.models.vit import BackboneConfig
from skill_fast.telemetry.provenance import provenance

MethodName = Literal["skill", "dino", "byol", "simclr", "mocov2", "simsiam", "pbcnet", "triplet"]


@dataclass(frozen=True)
class Config:
    """A training run."""

    data: str = ""
    """Folder of shards, or s3://BUCKET/PATH or gs://BUCKET/PATH; empty draws the demo catalogue."""
    out: str = ""
    """Run folder; empty is runs/PRESET."""
    epochs: float = 100.0
    """Length of the run; an epoch shows every photograph once as x'."""
    steps: int = 0
    """Length of the run in optimizer steps; 0 leaves it to epochs."""
    seed: int = 0
    method: MethodName = "skill"
    init_from: str = ""
    """Weights the backbone starts from: a safetensors or torch file of timm's or DINO's layout; empty: drawn."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    watch_every: int = 0
    """Steps between looks at held-out products (docs/methods.md), at the next logged step; 0: never."""
    watch_products: int = 256
    """Held-out products that are looked at, two photographs of each."""
    evaluate_every: int = 0
    """Steps between evaluations of held-out products in a process of its own, at the next logged step; 0: never."""
    evaluate_tasks: str = "knn,retrieval"
    """Tasks of skill-eval for them, comma-separated."""
    evaluate_products: int = 256
    """Products that are asked and that vote at most, each."""
    evaluate: bool = True
    """Measure the encoder and its controls at the end."""
    skill: SkillConfig = field(default_factory=SkillConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    byol: ByolConfig = field(default_factory=ByolConfig)
    simclr: SimclrConfig = field(default_factory=SimclrConfig)
    mocov2: Mocov2Config = field(default_factory=Mocov2Config)
    simsiam: SimsiamConfig = field(default_factory=SimsiamConfig)
    pbcnet: PbcnetConfig = field(default_factory=PbcnetConfig)
    triplet: TripletConfig = field(default_factory=TripletConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    demo: DemoConfig = field(default_factory=DemoConfig)


@dataclass(frozen=True)
class Command:
    """A command line: the run's configuration and what concerns only this start of it."""

    config: Config
    preset: str
    ds_config: Path
    fresh: bool
    allow_change: bool


def parse(arguments: Sequence[str], presets: dict[str, Config]) -> Command:
    """Read a command line; the preset's values are the defaults of every other option.

    Raises BadUsage for an unknown preset; an unknown or ill-typed option ends the process with exit code 2 (tyro).
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="demo")
    first.add_argument("--ds_config", "--ds-config", type=Path, default=Path("ds_configs/zero2.json"))
    first.add_argument("--fresh", action="store_true")
    first.add_argument("--allow_change", "--allow-change", action="store_true")
    first.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # from DeepSpeed's launcher
    known, rest = first.parse_known_args(arguments)
    if known.preset not in presets:
        raise BadUsage(f"preset '{known.preset}' is not known", allowed=", ".join(presets), change="--preset NAME")
    text = (
        "Train an encoder. Before all other options: --preset {" + ",".join(presets) + "}, --ds_config FILE, "
        "--fresh (throw away the run folder's checkpoints), --allow_change (resume although config or data changed)."
    )
    config = tyro.cli(Config, default=presets[known.preset], args=rest, description=text, prog="train.py")
    if not config.out:
        config = dataclasses.replace(config, out=f"runs/{known.preset}")
    check_limits(config)
    check_used(config, presets[known.preset])
    return Command(config, known.preset, known.ds_config, known.fresh, known.allow_change)


def as_dict(config: Config) -> dict[str, Any]:
    """Plain nested dicts and lists, as they are saved and compared."""
    return yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(config))))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def save(path: Path, config: Config, ds_config: dict[str, Any]) -> None:
    """Write config.yaml: every value that ran, the ds_config and what it ran with, each under its own key."""
    text = yaml.safe_dump({**as_dict(config), "ds_config": ds_config, "provenance": provenance()}, sort_keys=False)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
