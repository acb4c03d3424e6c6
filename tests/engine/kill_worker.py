"""Saves checkpoints and kills itself (SIGKILL) at the n-th step towards the disk, for many n; see test_checkpoint.py.

One parent imports DeepSpeed; every attempt is a forked child with its own process group. A child resumes, reports what
it found, trains one step and dies in the middle of saving it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skill_fast.engine.checkpoint import Checkpointer
from skill_fast.engine.deepspeed_engine import init_distributed
from tests.engine.toy import build, ds_config, train_step


class Executioner:
    """Counts calls that write, sync, rename or remove, and kills the process before the n-th takes place."""

    def __init__(self, n: int) -> None:
        self.n, self.count, self.trail = n, 0, ""
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
            setattr(module, name, self.watch(name, getattr(module, name)))
        torch.save = self.watch("torch.save", torch.save, half=True)
        Path.write_bytes = self.watch("write_bytes", Path.write_bytes)  # type: ignore[method-assign]
        Path.write_text = self.watch("write_text", Path.write_text)  # type: ignore[method-assign]

    def watch(self, name: str, real: Callable[..., Any], half: bool = False) -> Callable[..., Any]:
        def called(*inputs: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.n:
                if half:  # die with half of the file written
                    real(*inputs, **named)
                    path = Path(inputs[1])
                    os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*inputs, **named)

        return called


def attempt(folder: Path, n: int) -> None:
    init_distributed()
    engine, teacher = build(ds_config(2, "bf16"))
    saver = Checkpointer(folder, engine, teacher, config={}, dataset="")
    state = saver.resume()
    step = 0 if state is None else state["step"]
    shard = float(teacher.shards[0].double().sum())
    with open(folder.parent / "seen.jsonl", "a") as file:
        file.write(json.dumps({"n": n, "resumed": step, "teacher": shard, "kept": len(saver.on_disk.names())}) + "\n")
    train_step(engine, step)
    teacher.update(0.9, engine.finite)
    executioner = Executioner(n)
    saver.save(step + 1, {"note": "x"})
    (folder.parent / "calls").write_text(str(executioner.count))


def in_child(act: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def main(folder: Path) -> None:
    for slow in ("deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer"):  # seconds, once for all children
        importlib.import_module(slow)
    run = folder / "run"
    run.mkdir(parents=True)
    never = 10**9
    for _ in range(3):  # three whole saves: the last one also removes
        assert in_child(lambda: attempt(run, never)) == 0
    calls = int((folder / "calls").read_text())
    (folder / "seen.jsonl").unlink()
    points = [*range(1, calls - 8, 2), *range(calls - 8, calls + 1)]  # all of those around the rename, half of the rest
    statuses = [in_child(lambda n=n: attempt(run, n)) for n in points]
    statuses.append(in_child(lambda: attempt(run, never)))
    # The very first save of a run, cut short: nothing to lose, nothing to trip over.
    first = []
    for n in (1, 5, 9):
        shutil.rmtree(run)
        run.mkdir()
        first += [in_child(lambda n=n: attempt(run, n)), in_child(lambda: attempt(run, never))]
    (folder / "told.json").write_text(json.dumps({"points": len(points), "statuses": statuses, "first": first}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
