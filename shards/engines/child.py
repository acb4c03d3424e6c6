"""The parent's end of one child process: start it, ask it, learn which photograph it was lost with."""

from __future__ import annotations

import contextlib
import fcntl
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
from shards.engines.worker import CELL, LENGTH, READY, packed
from shards.errors import Failure, StorageFailure
from shards.normalize import Normalization

START_S = 120.0
POLL_S = 0.2
CLOSE_S = 10.0
"""For a child that was killed to be gone; one that waits for a dead mount in the kernel may stay as long as that."""
SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_READ_BYTES = 1 << 20
_STUCK_READING = "stuck_reading"


class Lost(Exception):
    """A child is gone: with which reason, and at which place of the tasks it had been asked."""

    def __init__(self, reason: str, detail: str, place: int) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.place = reason, detail, place


class Child:
    """A fresh interpreter that normalises photographs. Raises Failure where it does not start.

    reading_s, decoding_s: for one photograph. Counted is time in which this process ran, so a job that is suspended as
    a whole loses nothing.
    """

    def __init__(self, how: Normalization, *, reading_s: float, decoding_s: float, memory_bytes: int) -> None:
        self.fresh = True
        """It was asked for no photograph yet."""
        self._limits_s = (START_S, START_S)
        self._killed = False
        root = str(Path(shards.__file__).resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        cell_file = _cell_file()
        self._cell = mmap.mmap(cell_file, CELL.size)
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
        self._limits_s = (reading_s, decoding_s)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """The outcome of each task, as they come.

        Raises Lost, the Failure that a task met, or StorageFailure where one can not be read in time: what holds it up
        would hold up the rest of the catalogue too, and is no fault of the photograph.
        """
        CELL.pack_into(self._cell, 0, 0)
        self._send(list(tasks))
        self.fresh = False
        for _ in tasks:
            try:
                message = self._receive()
            except Lost as lost:
                if lost.reason != _STUCK_READING:
                    raise
                raise StorageFailure(
                    f"'{tasks[lost.place].photograph}' could not be read: {lost.detail}",
                    change="look at the storage or the mount; the same command goes on where this one stopped",
                ) from lost
            if isinstance(message, Failure):
                raise message
            yield message

    def kill(self) -> None:
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
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
        waited_s, stand = 0.0, self._stand()
        while not self._poll.poll(POLL_S * 1000):
            if self._killed:
                raise self._lost("decoder_died", "the process was killed")
            # A poll counts its own length, though the whole job may have been suspended in it for hours.
            waited_s += POLL_S
            before, stand = stand, self._stand()
            if stand != before:
                waited_s = 0.0
            decoding = stand % 2
            if waited_s >= (limit_s := self._limits_s[decoding]):
                reason = "decoder_timeout" if decoding else _STUCK_READING
                raise self._lost(reason, f"no answer within {limit_s:g} s")
        read = os.read(self._stdout.fileno(), _READ_BYTES)
        if not read:
            raise self._ended()
        self._buffer += read

    def _ended(self) -> Lost:
        return self._lost("decoder_died", f"the process ended with code {self._process.wait()}")

    def _lost(self, reason: str, detail: str) -> Lost:
        return Lost(reason, detail, self._stand() // 2)

    def _stand(self) -> int:
        return int(CELL.unpack_from(self._cell)[0])


def _cell_file() -> int:
    """A file in memory for the cell that parent and child share.

    Its number is none of the standard streams', which a caller may have closed: the child has its own there.
    """
    low = os.memfd_create("shards-progress")
    try:
        os.truncate(low, CELL.size)
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(low)
