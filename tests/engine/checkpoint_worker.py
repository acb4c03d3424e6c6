"""Saves, resumes, damages and refuses checkpoints in every way, and reports; started by test_checkpoint.py."""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from skill_fast.engine.checkpoint import Checkpointer
from skill_fast.engine.deepspeed_engine import init_distributed
from skill_fast.engine.student import Engine
from skill_fast.engine.teacher import ShardedTeacher
from skill_fast.errors import Failure
from tests.engine.toy import build, ds_config, train_step

CONFIG = {"method": {"name": "skill", "momentum": 0.99}, "crops": [2, 8]}
CASES = [(0, "fp32", False), (0, "bf16", False), (1, "bf16", False), (2, "bf16", False), (2, "fp32", False)]
CASES += [(2, "bf16", True)]


def advance(engine: Engine, teacher: ShardedTeacher, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        losses.append(train_step(engine, step) + float(torch.rand(())) + np.random.rand() + random.random())
        teacher.update(0.99, engine.finite)
    teacher.wait()
    return losses


def weights(engine: Engine, teacher: ShardedTeacher) -> list[torch.Tensor]:
    found = [p.detach().clone() for p in engine.module.parameters()] + [p.clone() for p in teacher.module.parameters()]
    found += [g.fp32_shard.detach().clone() for g in engine.flat_groups] + [s.clone() for s in teacher.shards]
    return found


def exact(folder: Path, config: dict, rank: int) -> dict[str, Any]:
    """3 steps, save, 3 more; against: a new engine from another seed, resumed, 3 more."""
    engine, teacher = build(config)
    advance(engine, teacher, 0, 3)
    saver = Checkpointer(folder, engine, teacher, config=CONFIG, dataset="abc")
    center = torch.arange(5.0) + rank
    written = saver.save(3, {"center": center, "loader": {"epoch": 1, "step": 3}, "queue": [torch.ones(2) * rank]})
    unbroken = advance(engine, teacher, 3, 6)
    expected = weights(engine, teacher)

    torch.manual_seed(99)
    engine, teacher = build(config, seed=5)
    advance(engine, teacher, 7, 8)
    state = Checkpointer(folder, engine, teacher, config=CONFIG, dataset="abc").resume()
    assert state is not None
    resumed = advance(engine, teacher, 3, 6)
    found = weights(engine, teacher)
    return {
        "name": f"zero{engine.stage}-{engine.precision}{'-offload' if 'offload' in json.dumps(config) else ''}",
        "losses_equal": unbroken == resumed,
        "weights_equal": all(torch.equal(a, b) for a, b in zip(expected, found)) and len(expected) == len(found),
        "center_equal": torch.equal(state["center"], center) and torch.equal(state["queue"][0], torch.ones(2) * rank),
        "plain": [state["loader"], state["step"]],
        "files": sorted(str(p.relative_to(written)) for p in written.rglob("*") if p.is_file()),
        "pointer": (folder / "checkpoints/newest").read_text().strip(),
        "latest": (written / "latest").exists(),
    }


def outcome(act: Callable[[], Any]) -> dict[str, Any]:
    """What a call returned or raised, and what it said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            result = act()
            told: dict[str, Any] = {"step": None if result is None else result["step"], "raised": None}
        except Failure as failure:
            told = {"step": None, "raised": type(failure).__name__, "message": str(failure)}
    return told | {"stderr": said.getvalue()}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damages(newest: Path, older: Path) -> dict[str, Callable[[], None]]:
    deepspeed = sorted((newest / "deepspeed").glob("*.pt"))
    found: dict[str, Callable[[], None]] = {"nothing": lambda: None}
    for path in [*deepspeed, newest / "teacher/rank-00000.safetensors", newest / "state/rank-00000.json"]:
        short = f"{path.parent.name}/{path.name}"
        found[f"flip:{short}"] = lambda p=path: flip(p, p.stat().st_size // 2)
        found[f"cut:{short}"] = lambda p=path: cut(p)
        found[f"missing:{short}"] = lambda p=path: p.unlink()
    found["flip:manifest.json"] = lambda: flip(newest / "manifest.json", 200)
    found["missing:manifest.json"] = lambda: (newest / "manifest.json").unlink()
    found["empty folder"] = lambda: (shutil.rmtree(newest), newest.mkdir())[0]
    found["pointer:missing"] = lambda: (newest.parent / "newest").unlink()
    found["pointer:wrong"] = lambda: (newest.parent / "newest").write_text("step-000099\n") and None
    found["pointer:older"] = lambda: (newest.parent / "newest").write_text(older.name + "\n") and None
    found["pointer:garbage"] = lambda: (newest.parent / "newest").write_bytes(b"\xff\x00") and None
    found["both"] = lambda: (flip(deepspeed[0].resolve(), 50), cut(older / "state/rank-00000.json"))[0]
    found["all gone but the pointer"] = lambda: (shutil.rmtree(newest), shutil.rmtree(older))[0]
    return found


def damaged(folder: Path) -> dict[str, Any]:
    engine, teacher = build(ds_config(2, "bf16"))
    sound = folder / "sound"
    saver = Checkpointer(sound, engine, teacher, config=CONFIG, dataset="abc")
    for step in (1, 2, 3):
        advance(engine, teacher, step - 1, step)
        saver.save(step, {"loader": {"epoch": 0}})
    told: dict[str, Any] = {"kept": sorted(p.name for p in (sound / "checkpoints").iterdir())}
    for name in damages(sound / "checkpoints/step-000003", sound / "checkpoints/step-000002"):
        run = folder / "damaged"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(sound, run)
        damages(run / "checkpoints/step-000003", run / "checkpoints/step-000002")[name]()
        told[name] = outcome(Checkpointer(run, engine, teacher, config=CONFIG, dataset="abc").resume)

    def other(config: dict, dataset: str = "abc", allow: bool = False) -> dict[str, Any]:
        return outcome(lambda: Checkpointer(sound, engine, teacher, config=config, dataset=dataset).resume(allow))

    changed = {"method": {"name": "dino", "momentum": 0.99}, "crops": [2, 8], "new": True}
    told["same config, tuples for lists"] = other({**CONFIG, "crops": (2, 8)})
    told["changed config"] = other(changed)
    told["changed config, allowed"] = other(changed, allow=True)
    told["changed dataset"] = other(CONFIG, "def")
    told["no checkpoints"] = outcome(Checkpointer(folder / "none", engine, teacher, config={}, dataset="").resume)
    (folder / "unfinished/checkpoints/.tmp-step-000001").mkdir(parents=True)
    told["unfinished"] = outcome(Checkpointer(folder / "unfinished", engine, teacher, config={}, dataset="").resume)
    told["repaired"] = repaired(folder / "damaged", sound, engine, teacher)
    told |= full_disk(folder / "full", engine, teacher)
    return told


def repaired(run: Path, sound: Path, engine: Engine, teacher: ShardedTeacher) -> list[Any]:
    """A run resumed from the older checkpoint comes past the damaged one again and replaces it."""
    shutil.rmtree(run)
    shutil.copytree(sound, run)
    flip(run / "checkpoints/step-000003/teacher/rank-00000.safetensors", 300)
    saver = Checkpointer(run, engine, teacher, config=CONFIG, dataset="abc")
    first = outcome(saver.resume)["step"]
    advance(engine, teacher, 2, 3)
    saver.save(3, {})
    return [first, outcome(Checkpointer(run, engine, teacher, config=CONFIG, dataset="abc").resume)]


def full_disk(folder: Path, engine: Engine, teacher: ShardedTeacher) -> dict[str, Any]:
    """A limit on the size of files stands for a full disk: the same calls fail in the same places."""
    saver = Checkpointer(folder, engine, teacher, config=CONFIG, dataset="abc")
    saver.save(1, {})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = {}
    for name, limit, state in (("deepspeed", 3000, {}), ("state", 60_000, {"queue": torch.zeros(100_000)})):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            failed = outcome(lambda kept=state: saver.save(2, kept) and None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        told[f"full disk: {name}"] = failed
        told[f"after full disk: {name}"] = outcome(saver.resume)
    return told


def main(folder: Path) -> None:
    rank, world, _ = init_distributed()
    reports = [exact(folder / str(n), ds_config(s, p, o), rank) for n, (s, p, o) in enumerate(CASES)]
    told: dict[str, Any] = {"exact": reports}
    if world == 1:
        told["damaged"] = damaged(folder)
        engine, teacher = build(ds_config(2, "bf16"))
        two = Path(sys.argv[2])
        told["other world size"] = outcome(Checkpointer(two, engine, teacher, config=CONFIG, dataset="abc").resume)
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.barrier()  # no rank takes its group down while another still talks through it
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
