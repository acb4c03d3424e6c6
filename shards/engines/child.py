"""The parent's end of one child process: start it, ask it, learn which photograph it was lost with."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import loads
from typing import Any

import shards
from shards.engines import Outcome, Task
from shards.engines.worker import LENGTH, READY, packed
from shards.errors import Failure
from shards.normalize import Normalization

START_S = 120.0
SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_READ_BYTES = 1 << 20


class Lost(Exception):
    """A child is gone: with which reason, and at which place of the tasks it had been asked."""

    def __init__(self, reason: str, detail: str, place: int) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.place = reason, detail, place


class Child:
    """A fresh interpreter that normalises photographs. Raises Failure where it does not start."""

    def __init__(self, how: Normalization, timeout_s: float, memory_bytes: int) -> None:
        self.fresh = True
        """It was asked for no photograph yet."""
        self._timeout_s = START_S
        root = str(Path(shards.__file__).resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        cell_file = os.memfd_create("shards-progress")
        os.truncate(cell_file, LENGTH.size)
        self._cell = mmap.mmap(cell_file, LENGTH.size)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shards.engines.worker", str(os.getpid()), str(cell_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[cell_file],
            env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(SINGLE_THREAD, "1")},
            # The keyboard stops the parent, which ends its children; they need not complain as well.
            process_group=0,
        )
        os.close(cell_file)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._buffer = bytearray()
        try:
            self._send((how, memory_bytes))
            assert self._receive() == READY
        except Lost as lost:
            self.close()
            raise Failure(
                f"a child process for decoding did not start: {lost.detail}", change="see its message above"
            ) from lost
        self._timeout_s = timeout_s

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """The outcome of each task, as they come; raises Lost, or the Failure that a task met."""
        LENGTH.pack_into(self._cell, 0, 0)
        self._send(list(tasks))
        self.fresh = False
        for _ in tasks:
            message = self._receive()
            if isinstance(message, Failure):
                raise message
            yield message

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._process.wait()
        self._cell.close()

    def _send(self, message: Any) -> None:
        rest = memoryview(packed(message))
        try:
            while rest:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
        except BrokenPipeError as error:
            raise self._ended() from error

    def _receive(self) -> Any:
        size = LENGTH.size
        while len(self._buffer) < size:
            self._read()
        size += LENGTH.unpack_from(self._buffer)[0]
        while len(self._buffer) < size:
            self._read()
        with memoryview(self._buffer) as view:
            message = loads(view[LENGTH.size : size])  # noqa: S301
        del self._buffer[:size]
        return message

    def _read(self) -> None:
        if not self._poll.poll(self._timeout_s * 1000):
            raise self._lost("decoder_timeout", f"no answer within {self._timeout_s:g} s")
        read = os.read(self._stdout.fileno(), _READ_BYTES)
        if not read:
            raise self._ended()
        self._buffer += read

    def _ended(self) -> Lost:
        return self._lost("decoder_died", f"the process ended with code {self._process.wait()}")

    def _lost(self, reason: str, detail: str) -> Lost:
        return Lost(reason, detail, LENGTH.unpack_from(self._cell)[0])
