"""The child process of the local engine: tasks in over stdin, an outcome per photograph out over stdout.

    parent -> child: (Normalization, memory_bytes), then any number of lists of tasks
    child -> parent: READY, then an outcome for each task

Every message is 8 bytes of length and a pickle. Both ends are this program: nothing foreign reaches pickle. Outcomes of
photographs that take less than ``FLUSH_S`` travel together, so which photograph is in work stands in a shared cell, and
whether it is being read or decoded: the one waits for a disk or a network, which may be slow without any harm in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import IO, Any

from shards.engines import Outcome, Task
from shards.errors import Failure, open_standard_streams
from shards.normalize import Normalization, normalize_file, normalize_image
from shards.rejects import Rejected
from shards.sources.drawing import Drawing, draw

READY = "ready"
LENGTH = struct.Struct("<Q")
CELL = struct.Struct("Q")
"""Twice the place of the photograph in work, and 1 more while it is decoded. One machine word, and in the order of this
machine: it is written and read at once, never half."""
FLUSH_S = 0.01
BUFFER_BYTES = 1 << 18
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 256 << 20, 32 << 20


def outcome_of(task: Task, how: Normalization, when_read: Callable[[], None] = lambda: None) -> Outcome:
    """Normalise one photograph; whatever goes wrong is a reason and its detail."""
    try:
        if isinstance(task.photograph, Drawing):
            when_read()
            return normalize_image(draw(task.photograph), how, task.crop_to_item)
        return normalize_file(task.photograph, how, task.crop_to_item, when_read=when_read)
    except Rejected as rejected:
        return rejected.reason, rejected.detail
    except MemoryError as error:
        return "out_of_memory", str(error) or "decoding needs more than a process may have"


def _answer(task: Task, how: Normalization, when_read: Callable[[], None]) -> Outcome | Failure:
    """The outcome; or what ends the build, such as storage that refuses: it is told, not laid on one photograph."""
    try:
        return outcome_of(task, how, when_read)
    except Failure as failure:
        return failure


def packed(message: Any) -> bytes:
    """A message with its length in front."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def serve(requests: IO[bytes], answers: IO[bytes], how: Normalization, cell: mmap.mmap) -> None:
    """Answer lists of tasks until ``requests`` ends; ``cell`` tells how far they are."""
    while (tasks := _received(requests)) is not None:
        flushed = time.monotonic()
        for place, task in enumerate(tasks):
            CELL.pack_into(cell, 0, 2 * place)
            answers.write(packed(_answer(task, how, partial(CELL.pack_into, cell, 0, 2 * place + 1))))
            if time.monotonic() - flushed > FLUSH_S:
                answers.flush()
                flushed = time.monotonic()
        answers.flush()


def main(parent: int, cell_file: int) -> None:
    """Serve the process ``parent`` over stdin and stdout; ``cell_file`` is the file descriptor of the shared cell."""
    _die_with(parent)
    open_standard_streams()
    answers = os.fdopen(os.dup(1), "wb", buffering=BUFFER_BYTES)
    _silence_decoders()
    _keep_freed_memory()
    setup = _received(sys.stdin.buffer)
    if setup is None:
        return
    how, memory_bytes = setup
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    answers.write(packed(READY))
    answers.flush()
    serve(sys.stdin.buffer, answers, how, mmap.mmap(cell_file, CELL.size))


def _silence_decoders() -> None:
    """Keep what libraries print or log out of the pipe and off the screen; an error of this program is still shown."""
    logging.disable()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _keep_freed_memory() -> None:
    """Have glibc keep what a photograph's pixels took for the next one's: else each asks the kernel for its pages anew.

    Those page faults were a tenth to a fifth of a photograph's time (docs/LOG.md). Other C libraries have no
    ``mallopt`` and go on as they are.
    """
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however it does, even within a decoder that hangs."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _received(stream: IO[bytes]) -> Any:
    """The next message; None where the stream ends."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    body = stream.read(LENGTH.unpack(head)[0])
    return pickle.loads(body)  # noqa: S301


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
