"""The runs of ``benchmarks.methods``: what is trained, under which settings, and the records of it.

A run or a record is taken for what is asked for only where its settings are the same: everything that weights or
batches depend on (configuration, ds_config, seed, steps) and the data set's fingerprint, as one sha256.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from benchmarks import archive
from skill_fast.config import MethodName, as_dict, parse
from skill_fast.data.index import open_index
from skill_fast.demo import demo_shards
from skill_fast.engine.ds_config import load_ds_config
from skill_fast.errors import BadData, BadUsage
from skill_fast.presets import PRESETS
from skill_fast.run_folder import what_must_not_change
from skill_fast.telemetry.provenance import fingerprint

METHODS = get_args(MethodName)
ABLATIONS = {
    "skill_no_local_augmentation": ["--loader.recipes", "none"],
    "skill_no_preprocessing": ["--demo.preprocess", "none"],
    "skill_weak_color": ["--views.generic.gray-p", "0.1", "--views.generic.jitter-p", "0.1"],
    "skill_single_photograph": ["--views.photographs", "one"],
    "skill_cross_resolution": ["--skill.pairs", "cross_resolution"],
}
"""SkiLL with one thing changed; the demo has no blur that weak colour could weaken."""
OTHER_PIXELS = ("skill_no_preprocessing",)
"""Their photographs are built in another way, so their controls are others too, and stand in their records alone."""
SCORES = {
    "knn/pattern/accuracy": ("kNN\npattern", "share"),
    "knn/type/accuracy": ("kNN\ntype", "share"),
    "retrieval/same_product/recall@1": ("same\nproduct\nR@1", "share"),
    "retrieval/other_color/recall@1": ("other\ncolour\nR@1", "share"),
    "color/clusters/mean": ("colour\nentropy", "nats"),
    "color/design/pattern/purity": ("pattern\npurity", "share"),
}
"""Score of evaluation.json -> its heading and unit; the entropy never without the purity of the same clusters."""
CONTROLS = ("untrained", "raw pixels", "grey pixels", "colour histogram")
SPEED = "products_per_s"
TRAIN = Path(__file__).parents[1] / "skill_fast" / "train.py"


@dataclass(frozen=True)
class Asked:
    """One run of the study: a method's demo preset or an ablation, with its options. more: options of train.py."""

    name: str
    seed: int
    steps: int
    ds_config: Path
    data: str
    more: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """What train.py is given, but for the run folder."""
        preset = "skill_demo" if self.name in ABLATIONS else f"{self.name}_demo"
        options = ["--preset", preset, "--ds_config", str(self.ds_config), "--steps", str(self.steps)]
        options += ["--seed", str(self.seed), *ABLATIONS.get(self.name, [])]
        return [*options, *(["--data", self.data] if self.data else []), *self.more]

    def settings(self) -> str:
        """Fingerprint of the settings that are asked for; draws the demo catalogue where it has to. Raises BadUsage."""
        config = parse(self.options, PRESETS).config
        index = open_index(config.data or demo_shards(config.demo), config.cache)
        return _settings(as_dict(config), load_ds_config(self.ds_config), index.fingerprint)


def _settings(config: dict[str, Any], ds_config: dict[str, Any], dataset: str) -> str:
    return fingerprint({**what_must_not_change(config, ds_config), "dataset": dataset})[:16]


def train(asked: Asked, runs: Path, *, evaluate: bool = True) -> Path:
    """Train a run, or go on with it, or take the finished one; returns its run folder. Not evaluated: always anew.

    Raises BadData where training fails, BadUsage for a finished run of other settings.
    """
    out = runs / f"{asked.name}-{asked.seed}{'' if evaluate else '-speed'}"
    if (out / "evaluation.json").is_file():
        if read_settings(out) != asked.settings():
            raise BadUsage(
                f"'{out}' is a finished run of other settings",
                allowed="runs of the same options, ds_config and data",
                change="--runs, or remove that folder",
            )
        return out
    command = [sys.executable, str(TRAIN), *asked.options, "--out", str(out)]
    command += [] if evaluate else ["--no-evaluate", "--watch-every", "0", "--fresh"]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise BadData(
            f"{asked.name} with seed {asked.seed} ended with exit code {code}",
            allowed="a run that trains to its end",
            change=f"see {out}/exit.json, then the same command goes on",
        )
    return out


def read_config(run: Path) -> dict[str, Any]:
    """config.yaml of a run. Raises BadData."""
    try:
        return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadData(f"'{run}' is not a run: {error}", change="another --runs") from error


def read_settings(run: Path) -> str:
    """Fingerprint of the settings that a run had. Raises BadData."""
    config = read_config(run)
    try:
        ds_config = config.pop("ds_config")
        config.pop("provenance")
        dataset = json.loads((run / "model.json").read_text(encoding="utf-8"))["dataset"]
        return _settings(config, ds_config, dataset)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadData(f"'{run}' does not say its settings: {error!r}", change="another --runs") from error


def score_records(asked: Asked, run: Path) -> Iterator[dict[str, Any]]:
    """One record a score of a finished run, its controls beside it. Raises BadData for a run without scores."""
    shared = _shared(asked, run)
    try:
        rows = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["rows"]
        for score, (_, unit) in SCORES.items():
            controls = {name: rows[name][score] for name in CONTROLS}
            value = rows["trained"][score]
            yield {
                "what": f"methods/{asked.name}/{score}",
                "value": value,
                "unit": unit,
                "controls": controls,
                **shared,
            }
    except (OSError, ValueError, KeyError) as error:
        raise BadData(f"'{run}' is not a finished run: {error}", change="train it to its end, evaluated") from error


def speed_record(asked: Asked, run: Path) -> dict[str, Any]:
    """products/s: the median of what a run logged, its first logged line (the start) left out."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        logged = [json.loads(line)[SPEED] for line in lines]
    except (OSError, ValueError, KeyError) as error:
        raise BadData(f"'{run}' has no speed: {error}", change="train it to its end") from error
    speed = statistics.median(logged[1:] or logged)
    record = {"what": f"methods/{asked.name}/{SPEED}", "value": speed, "unit": "products/s", "controls": {}}
    return record | _shared(asked, run)


def _shared(asked: Asked, run: Path) -> dict[str, Any]:
    config = read_config(run)
    ds_config = config["ds_config"]
    precision = next((name for name in ("bf16", "fp16") if ds_config.get(name, {}).get("enabled")), "fp32")
    about = {"method": asked.name, "seed": asked.seed, "steps": asked.steps, "precision": precision}
    return {**about, "settings_sha256": read_settings(run), **config["provenance"]}


def kept(out: Path | None, asked: Asked) -> list[dict[str, Any]]:
    """The score records of a run that ``--out`` holds whole; of none otherwise. Raises BadUsage for other settings."""
    if out is None or not out.is_file():
        return []
    lines = (record.fields for record in archive.read(out, damaged=[]))
    wanted = (asked.name, asked.seed, asked.steps)
    last = {
        str(line["what"]): dict(line) for line in lines if tuple(map(line.get, ("method", "seed", "steps"))) == wanted
    }
    mine = list(last.values())
    if not {f"methods/{asked.name}/{score}" for score in SCORES} <= last.keys():
        return []
    settings = {line.get("settings_sha256") for line in mine}
    if settings != {asked.settings()}:
        unknown = None in settings
        raise BadUsage(
            f"'{out}' holds {asked.name} with seed {asked.seed}, "
            + ("from before settings were recorded" if unknown else "trained under other settings"),
            allowed="records of the same options, ds_config and data",
            change="another --out",
        )
    return mine
