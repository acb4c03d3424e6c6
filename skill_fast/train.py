"""START HERE: from a configuration to a trained encoder and a table of what it learned.

    deepspeed skill_fast/train.py --ds_config ds_configs/zero2.json [--preset NAME] [--data DIR] [--section.key VALUE]

``build`` makes data, method and engine in the order in which data flows; ``engine/loop.py`` trains.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # started as a file: names such as `data` and `models` must not hide other packages' modules

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from shards.places import absolute
from skill_fast.config import Command, Config, as_dict, parse, save
from skill_fast.data.calibration import calibrated
from skill_fast.data.index import CatalogueIndex, open_index
from skill_fast.data.loader import Loader
from skill_fast.demo import demo_shards
from skill_fast.engine.checkpoint import Checkpointer
from skill_fast.engine.deepspeed_engine import (
    Engine,
    build_engine,
    init_distributed,
    leave,
    load_ds_config,
)
from skill_fast.engine.loop import Look, Run
from skill_fast.engine.not_finite import NotFiniteSteps
from skill_fast.engine.optimizer import Course
from skill_fast.engine.param_groups import param_groups
from skill_fast.engine.ranks import cores_of_rank, least_of_ranks, naming_lost_ranks
from skill_fast.engine.teacher import ShardedTeacher
from skill_fast.errors import exit_with
from skill_fast.evaluate.background import BackgroundEvaluation, EvaluationEvery
from skill_fast.evaluate.suite import measure, tasks_of
from skill_fast.evaluate.watch import HeldOutWatch, WatchEvery
from skill_fast.kernels import choose
from skill_fast.methods import METHODS, Method
from skill_fast.models.encoder import describe, resize_of, save_teacher
from skill_fast.models.speed import prepare
from skill_fast.models.weights import load_backbone
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder, what_must_not_change


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code (docs/exit_codes.md)."""
    return exit_with(lambda: start(parse(sys.argv[1:] if arguments is None else arguments, PRESETS)))


def start(command: Command) -> None:
    """Build, train and finish a run; however it ends, exit.json says so."""
    tasks_of(command.config.evaluate_tasks, "--evaluate-tasks")
    folder = RunFolder(command.config.out, rank=int(os.environ.get("RANK", "0")))
    ds_config = load_ds_config(command.ds_config)
    data = absolute(command.config.data) if command.config.data else demo_shards(command.config.demo)
    config = replace(command.config, data=str(data))
    index = open_index(data, config.cache)
    folder.check()
    run = None
    try:
        run = build(config, ds_config, index, folder)
        folder.open(fresh=command.fresh)
        with run, naming_lost_ranks():
            run.resume(command.allow_change)
            folder.begin()
            if run.engine.rank == 0:
                save(folder.path / "config.yaml", replace(config, loader=run.loader.config), ds_config)
                print(f"preset {command.preset}: {run}\nrun folder {folder.path}")
            with closing(run.sinks(folder.path)) as sinks:
                run.train(sinks, config.log_every, config.checkpoint_every)
            if run.engine.rank == 0 and (summary := index.files.summary()):
                print(summary)
        if config.evaluate and run.engine.rank == 0:
            measure(folder.path, index)
    except BaseException as error:
        folder.fail(error, run.step if run else 0)
        raise
    finally:
        leave()
    folder.close(0, "done", run.step)


def build_learner(config: Config, ds_config: dict[str, Any]) -> tuple[Method, Engine, ShardedTeacher]:
    """Student, teacher, loss and optimizer on this rank, levers applied: all of a run that needs no data."""
    choose(config.speed.kernels)
    section = getattr(config, config.method, None)
    method = METHODS[config.method](section, config.backbone, config.head, config.views, seed=config.seed)
    if config.init_from:
        for network in (method.student, method.teacher):
            load_backbone(network.backbone, config.init_from)  # type: ignore[arg-type]
    *_, device = init_distributed()
    method.to(device)
    groups = param_groups(method.student, constant_lr=method.constant_lr)
    betas = (config.optimizer.beta1, config.optimizer.beta2)
    engine = build_engine(method.student, ds_config, groups, betas, lars=config.optimizer.name == "lars")
    teacher = ShardedTeacher(engine, method.teacher)
    prepare(method.student, method.teacher, config.speed, device)
    return method, engine, teacher


def build(config: Config, ds_config: dict[str, Any], index: CatalogueIndex, folder: RunFolder) -> Run:
    """Everything a run is made of, on this rank."""
    method, engine, teacher = build_learner(config, ds_config)
    rank = engine.rank
    share: dict[str, Any] = {
        "global_batch": engine.global_batch,
        "rank": rank,
        "world_size": engine.world_size,
        "micro_steps": engine.micro_steps,
        "device": engine.device,
    }
    settings = calibrated(index, method.views(), config.loader, agree=least_of_ranks, cores=cores_of_rank(), **share)
    if rank == 0:
        print(settings)
    where: dict[str, Any] = {"seed": config.seed, "skipped_path": folder.skipped_path}
    loader = Loader(index, method.views(), batches=method.batches(), config=settings.config, **share, **where)
    course = Course(
        config.optimizer if method.has_teacher else config.optimizer.without_average(),
        total_steps=config.steps or round(config.epochs * loader.steps_per_epoch),
        steps_per_epoch=loader.steps_per_epoch,
        global_batch=engine.global_batch,
    )
    fixed = what_must_not_change(as_dict(config), ds_config)
    checkpointer = Checkpointer(folder.path, engine, teacher, config=fixed, dataset=index.fingerprint)

    about = partial(describe, config.backbone, method=config.method, seed=config.seed, dataset=index.fingerprint)
    about = partial(about, mean=config.loader.mean, std=config.loader.std)

    def export(step: int) -> None:
        save_teacher(folder.path, teacher.full_state(), about(step=step))

    def ids_of(products: np.ndarray) -> list[str]:
        return index.column("product_id")[products].tolist()

    not_finite = NotFiniteSteps(folder.not_finite_path, ids_of, judged=not engine.searches_for_a_loss_scale)
    looks = _looks(config, index, teacher, folder, about)
    return Run(engine, teacher, method, loader, course, checkpointer, export, not_finite, looks)


def _looks(
    config: Config,
    index: CatalogueIndex,
    teacher: ShardedTeacher,
    folder: RunFolder,
    about: Callable[..., Mapping[str, Any]],
) -> list[Look]:
    """What is looked at beside the training, as far as the configuration asks for it."""
    looks: list[Look] = []
    engine, rhythm = teacher.engine, {"log_every": config.log_every}
    if config.watch_every and engine.rank == 0:
        side = config.backbone.image_size
        pixels: dict[str, Any] = {"resize": resize_of(side), "crop": side}
        pixels |= {"mean": config.loader.mean, "std": config.loader.std}
        held_out = HeldOutWatch(index, products=config.watch_products, device=engine.device, **pixels)
        backbone: Any = teacher.module.backbone
        looks.append(WatchEvery(held_out, backbone, engine.dtype, every=config.watch_every, **rhythm))
    if config.evaluate_every:
        tasks = tasks_of(config.evaluate_tasks, "--evaluate-tasks")
        what: dict[str, Any] = {"tasks": tasks, "products": config.evaluate_products, "cache": config.cache}
        evaluation = BackgroundEvaluation(folder.path, config.data, **what) if engine.rank == 0 else None
        pace: dict[str, Any] = {"every": config.evaluate_every, **rhythm}
        looks.append(EvaluationEvery(evaluation, weights=teacher.full_state, about=lambda n: about(step=n), **pace))
    return looks


if __name__ == "__main__":
    sys.exit(main())
