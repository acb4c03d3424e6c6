"""Photographs that act when a child first looks at them: crash it, hang it, eat its memory, tell of it."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

from PIL import AvifImagePlugin

from shards.engines import Task
from shards.errors import StorageFailure
from shards.rejects import Rejected
from shards.sources.drawing import Drawing

kept: list[object] = []
"""What earlier photographs left behind in the process."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Hostile(Drawing):
    """Decoding it runs ``act`` of this module; ``file`` is for acts that need one.

    A drawing, since a decoder takes what an act raises for damage; it has no other field of one, so the first look at
    it acts.
    """

    act: str
    file: str

    def __init__(self, act: str, file: str = "") -> None:
        vars(self).update(act=act, file=file)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        acts[self.act](self.file)
        raise Rejected("undecodable", "the act is over")


def hostile(act: str, file: str | Path = "") -> Task:
    return Task(Hostile(act, str(file)))


class StuckPath(PosixPath):
    """A file on a mount that does not answer."""

    def __fspath__(self) -> str:
        hang("")
        raise AssertionError


def crash(file: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(file: str) -> None:
    os._exit(3)


def hang(file: str) -> None:
    # Blocking the signals that can be blocked, as a decoder deep in C does.
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    if file:
        Path(file).write_text(str(os.getpid()))
    time.sleep(600)


def hang_once(file: str) -> None:
    if not Path(file).exists():
        hang(file)


def work(file: str) -> None:
    """For half a second, with a word of who does."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(0.5)


def eat(file: str) -> None:
    kept.append(bytearray(1 << 40))


def spoil(file: str) -> None:
    kept.append("spoilt")


def crash_if_spoilt(file: str) -> None:
    if kept:
        os.abort()


def eat_if_spoilt(file: str) -> None:
    if kept:
        raise MemoryError


def crash_once(file: str) -> None:
    if not Path(file).exists():
        Path(file).touch()
        os.abort()


def chatter(file: str) -> None:
    os.write(1, b"decoder: hello\n" * 10)
    os.write(2, b"decoder: a warning\n" * 10)
    print("decoder: hello", flush=True)
    logging.getLogger("PIL.TiffImagePlugin").error("decoder: more samples than can be decoded")


def raise_unforeseen(file: str) -> None:
    raise ZeroDivisionError("unforeseen")


def refuse(file: str) -> None:
    raise StorageFailure("the storage refused", change="ask it nicely")


def tell(file: str) -> None:
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CORE)]
    threads = [os.environ["OMP_NUM_THREADS"], AvifImagePlugin.DEFAULT_MAX_THREADS, threading.active_count()]
    raise Rejected("undecodable", f"{os.getpid()} {limits} {threads} {'torch' in sys.modules}")


acts: dict[str, Callable[[str], None]] = {
    act.__name__: act
    for act in (
        crash,
        leave,
        hang,
        hang_once,
        work,
        eat,
        spoil,
        crash_if_spoilt,
        eat_if_spoilt,
        crash_once,
        chatter,
        raise_unforeseen,
        refuse,
        tell,
    )
}
