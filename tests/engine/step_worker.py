"""Real training steps, loop, loader, method and all, for every stage: do they wait for the device, when for the
teacher's weights, and what does a non-finite number on one rank do? See test_step.py; one process a rank."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from deepspeed.accelerator import get_accelerator

from skill_fast.config import parse
from skill_fast.data.batch import Batch
from skill_fast.data.index import open_index
from skill_fast.engine.deepspeed_engine import init_distributed, leave
from skill_fast.engine.loop import Run
from skill_fast.methods import METHODS
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder
from skill_fast.telemetry.clock import Clock
from skill_fast.train import build
from tests.conftest import TINY
from tests.engine.synchronisations import NoSynchronisation, Synchronised
from tests.engine.toy import ds_config

STAGES = [f"zero{stage}-{precision}" for stage in (0, 1, 2) for precision in ("fp32", "bf16")]
OPTIONS = {
    "packed": ["--speed.packed"],
    "gradient_checkpointing": ["--speed.gradient-checkpointing"],
    "drop_path_by_subset": ["--speed.drop-path-by-subset", "--backbone.drop-path", "0.3"],
    "sinkhorn": ["--skill.centering", "sinkhorn"],
}
OTHERS = [*(name for name in METHODS if name != "skill"), *OPTIONS]
STAGE_OF_OTHERS = {1: "zero0-bf16", 2: "zero2-bf16"}
"""By number of ranks; in bf16, where batch norm meets fp32 statistics."""


def run_of(data: str, folder: Path, case: str) -> Run:
    """case: [method or lever-]zero STAGE-PRECISION."""
    what, stage, precision = f"skill-{case}".split("-")[-3:]
    options = [*TINY, "--data", data, "--steps", "40", "--mocov2.queue", "64", "--pbcnet.queue", "64"]
    preset = f"{what}_demo" if what in METHODS else "skill_demo"
    config = parse([*options, "--preset", preset, *OPTIONS.get(what, [])], PRESETS).config
    out = RunFolder(folder / case, rank=init_distributed()[0])
    out.open(fresh=True)
    settings = ds_config(int(stage[-1]), precision, train_batch_size=8, gradient_accumulation_steps=2)
    return build(replace(config, out=str(out.path)), settings, open_index(data), out)


def step(run: Run, batches: Iterator[Batch]) -> None:
    run.one_step(batches, run.course[run.step], Clock())
    run.step += 1


@contextmanager
def guarded(device: torch.device) -> Iterator[None]:
    """On a GPU the driver's own watch, else ours; and waits for the whole device raise, which neither sees."""
    with whole_device_waits_raise():
        if device.type == "cpu":
            with NoSynchronisation():
                yield
            return
        with _driver_s_watch():
            yield


@contextmanager
def whole_device_waits_raise() -> Iterator[None]:
    """DeepSpeed's door to the device and torch's own: on a CPU they do nothing, so nothing else would tell."""
    accelerator = get_accelerator()

    def waits(*_: Any, **__: Any) -> None:
        raise Synchronised("a wait for the whole device")

    doors = [(accelerator, "synchronize"), (torch.cuda, "synchronize"), (torch.cpu, "synchronize")]
    doors += [(kind, "synchronize") for kind in (torch.cuda.Stream, torch.cuda.Event)]
    with ExitStack() as patches:
        for owner, name in doors:
            patches.enter_context(mock.patch.object(owner, name, waits))
        yield


@contextmanager
def _driver_s_watch() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise Synchronised(str(error)) from error
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def order_of_use(run: Run) -> Iterator[list[tuple[str, int]]]:
    """(which network, collectives of the teacher's weights that are pending) as student and teacher are called."""
    seen: list[tuple[str, int]] = []

    def note(name: str) -> Any:
        return lambda *_: seen.append((name, len(run.teacher._pending)))

    teacher = run.teacher.module
    hooks = [run.engine.module.register_forward_hook(note("student"))]
    # The whole where it is called, else its backbone: after the teacher's own hook, which is older.
    hooks += [part.register_forward_pre_hook(note("teacher")) for part in (teacher, teacher.backbone)]  # type: ignore
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def waits(run: Run, batches: Iterator[Batch]) -> str:
    """What a step waited for; "" where for nothing."""
    prefetched = iter([next(batches) for _ in range(run.engine.micro_steps)])
    try:
        with guarded(run.engine.device):
            step(run, prefetched)
    except Synchronised as found:
        return str(found)
    return ""


def planted(run: Run, batches: Iterator[Batch], where: str) -> str:
    """The same with a wait put into the loss, its backward pass, or the end of the step."""
    method, loss, commit = run.method, run.method.loss, run.method.commit

    def reading_loss(*arguments: Any) -> Any:
        value, tensors = loss(*arguments)
        if where == "loss":
            float(value)
        if where == "device":
            get_accelerator().synchronize()
        if where == "backward":
            value.register_hook(lambda gradient: gradient * gradient.item())
        return value, tensors

    def reading_commit(finite: torch.Tensor) -> None:
        if where != "commit" or finite:
            commit(finite)

    method.loss, method.commit = reading_loss, reading_commit  # type: ignore[method-assign]
    try:
        return waits(run, batches)
    finally:
        method.loss, method.commit = loss, commit  # type: ignore[method-assign]
        method.commit(torch.tensor(False, device=run.engine.device))


def state(run: Run) -> str:
    """A hash of weights, masters, moments, teacher and center."""
    run.teacher.wait()
    tensors = [*run.engine.module.parameters(), *run.teacher.module.parameters(), *run.teacher.shards]
    tensors += [group.fp32_shard for group in run.engine.flat_groups] + list(run.method.state_dict().values())
    wrapper = run.engine.optimizer_wrapper
    inner = getattr(wrapper, "optimizer", wrapper)
    for held in inner.state.values():
        tensors += [value for name, value in sorted(held.items()) if isinstance(value, torch.Tensor)]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def poisoned(batches: Iterator[Batch], value: float) -> Iterator[Batch]:
    for batch in batches:
        crops = {name: crop.clone() for name, crop in batch.crops.items()}
        crops["global"][0, 0, 0, 0, 0] = value
        yield replace(batch, crops=crops)


def spoiled(run: Run, batches: Iterator[Batch], what: str, here: bool) -> list[Any]:
    """[state unchanged, skipped, state moved by the next step] after a non-finite number on one rank only."""
    before = state(run)
    module, handle = run.engine.module, None
    if here and what == "gradient":
        handle = next(module.parameters()).register_hook(lambda gradient: gradient + float("inf"))
    change = {"loss": lambda value: value * math.nan, "infinite loss": lambda value: value + math.inf}.get(what)
    if here and change:
        loss = run.method.loss
        run.method.loss = lambda *a: (lambda value, told: (change(value), told))(*loss(*a))  # type: ignore
    step(run, poisoned(batches, float("nan")) if here and what == "input" else batches)
    if here and change:
        run.method.loss = loss  # type: ignore[method-assign]
    if handle is not None:
        handle.remove()
    skipped = not bool(run.engine.finite)
    same = state(run) == before
    step(run, batches)
    return [same, skipped, state(run) != before and bool(run.engine.finite)]


def report(run: Run, case: str, world: int, rank: int) -> dict[str, Any]:
    with run:
        batches = iter(run.loader)
        for _ in range(2):  # what is built in the first steps may wait
            step(run, batches)
        with order_of_use(run) as used:
            told: dict[str, Any] = {"waits": waits(run, batches), "used": used}
        if case not in STAGES:
            return told
        if world == 1:
            told["planted"] = {
                where: planted(run, batches, where) for where in ("loss", "backward", "commit", "device")
            }
        told["spoiled"] = {
            what: spoiled(run, batches, what, rank == world - 1)
            for what in ("input", "loss", "infinite loss", "gradient")
        }
        run.not_finite.look()
        told["steps"] = run.not_finite.steps
        listed = Path(run.not_finite._file or "")
        told["listed"] = [json.loads(line) for line in listed.read_text().splitlines()]
    return told


def main(data: str, folder: Path) -> None:
    rank, world, _ = init_distributed()
    cases = [*STAGES, *(f"{name}-{STAGE_OF_OTHERS[world]}" for name in OTHERS)]
    told = {case: report(run_of(data, folder, case), case, world, rank) for case in cases}
    (folder / f"step-{world}-{rank}.json").write_text(json.dumps(told))
    leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
