"""Work on a folder that is killed before its n-th change of the disk, and what the kill leaves."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OPERATIONS = ("replace", "unlink", "rename", "rmdir", "fsync")
"""Of the module os: every change that an arrival makes to a disk goes through one of them."""


class Killed(BaseException):
    """Ends a process without its clean-up: nothing here catches it but the tests."""


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do ``work`` in a process that is gone, without any clean-up, before its ``step``-th change of the disk.

    Returns whether it came so far.
    """
    child = os.fork()
    if child == 0:
        done = [0]

        def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
            def change(*arguments: Any, **named: Any) -> Any:
                if done[0] == step:
                    os._exit(9)
                done[0] += 1
                return operation(*arguments, **named)

            return change

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def states(
    folder: Path, fresh: Path, finish: Callable[[Path], Any], every: int = 1, first: int = 0
) -> Iterator[tuple[int, Path]]:
    """Kill ``finish`` before each of its steps in turn; yields what is left, each time from the start."""
    step = first
    while True:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(folder, fresh)
        if not killed_at(step, lambda: finish(fresh)):
            return
        yield step, fresh
        step += every
