"""Photographs -> JPEGs in child processes of this one.

A child is a fresh interpreter that speaks over its pipes: nothing of the caller, neither its threads nor its imports,
is carried over, so a training process that holds a GPU may build shards too. A chunk of tasks goes to a child in one
message and the child answers photograph by photograph:

    for each chunk: send the tasks that have no outcome yet; take the answers as they come
        the child ended:    the first unanswered photograph is tried once more in a new child, then it is `decoder_died`
        no answer in time:  the first unanswered photograph is `decoder_timeout`
        the rest of the chunk goes on in a new child
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from pickle import loads
from typing import Any

import shards
from shards.engines import Outcome, Task
from shards.engines.worker import LENGTH, READY, outcome_of, packed
from shards.errors import Failure
from shards.normalize import Normalization

TIMEOUT_S = 60.0
"""For one photograph; a healthy 50-megapixel one takes about 2 s."""
START_S = 120.0
MEMORY_BYTES = 4 << 30
"""What a child may allocate."""
CHUNK = 16
CHUNKS_AHEAD = 3
"""For each child: one in work, one that waits for it, one that is done and waits to be written."""
SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_READ_BYTES = 1 << 20


class LocalEngine:
    """Up to ``workers`` children, started when there is work for them; 0 works in this process, unprotected."""

    def __init__(
        self,
        how: Normalization,
        *,
        workers: int | None = None,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.workers = workers if workers is not None else len(os.sched_getaffinity(0))
        self.chunk = CHUNK
        self.ahead = CHUNK * CHUNKS_AHEAD * self.workers
        self.lost: list[str] = []
        """Why children were lost, in the order of time."""
        self._how, self._timeout_s, self._memory_bytes = how, timeout_s, memory_bytes
        self._threads = ThreadPoolExecutor(self.workers, "shards-child") if self.workers else None
        self._mine = threading.local()
        self._children: set[_Child] = set()
        self._closed = False

    def submit(self, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        if self._threads is not None:
            return self._threads.submit(self._in_child, tasks)
        done: Future[list[Outcome]] = Future()
        done.set_result([outcome_of(task, self._how) for task in tasks])
        return done

    def close(self) -> None:
        if self._threads is None:
            return
        self._closed = True
        for child in tuple(self._children):
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in tuple(self._children):
            child.close()

    def _in_child(self, tasks: Sequence[Task]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        suspect = -1
        while len(outcomes) < len(tasks):
            child = self._child()
            try:
                child.ask(tasks[len(outcomes) :], outcomes, self._timeout_s)
            except _Lost as lost:
                self._drop(child)
                if self._closed:
                    raise CancelledError from lost
                self.lost.append(lost.detail)
                # The child may have been hurt by an earlier photograph, or killed from outside.
                if lost.reason == "decoder_timeout" or suspect == len(outcomes):
                    outcomes.append((lost.reason, lost.detail))
                else:
                    suspect = len(outcomes)
        return outcomes

    def _child(self) -> _Child:
        """The child of this thread."""
        child: _Child | None = getattr(self._mine, "child", None)
        if child is not None and not child.alive:
            self._drop(child)
            child = None
        if child is None:
            child = self._mine.child = _Child(self._how, self._memory_bytes)
            self._children.add(child)
        return child

    def _drop(self, child: _Child) -> None:
        self._mine.child = None
        self._children.discard(child)
        child.close()


class _Lost(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class _Child:
    def __init__(self, how: Normalization, memory_bytes: int) -> None:
        root = str(Path(shards.__file__).resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shards.engines.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(SINGLE_THREAD, "1")},
            # The keyboard stops the parent, which ends its children; they need not complain as well.
            process_group=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._buffer = bytearray()
        try:
            self._send((how, memory_bytes))
            assert self._receive(START_S) == READY
        except _Lost as lost:
            self.close()
            raise Failure(
                f"a child process for decoding did not start: {lost.detail}", change="see its message above"
            ) from lost

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, tasks: Sequence[Task], outcomes: list[Outcome], timeout_s: float) -> None:
        """Append an outcome per task to ``outcomes``; raises _Lost at the first that has none."""
        self._send(list(tasks))
        for _ in tasks:
            outcomes.append(self._receive(timeout_s))

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._process.wait()

    def _send(self, message: Any) -> None:
        rest = memoryview(packed(message))
        try:
            while rest:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
        except BrokenPipeError as error:
            raise self._ended() from error

    def _receive(self, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        size = LENGTH.size
        while len(self._buffer) < size:
            self._read(deadline, timeout_s)
        size += LENGTH.unpack_from(self._buffer)[0]
        while len(self._buffer) < size:
            self._read(deadline, timeout_s)
        with memoryview(self._buffer) as view:
            message = loads(view[LENGTH.size : size])  # noqa: S301
        del self._buffer[:size]
        return message

    def _read(self, deadline: float, timeout_s: float) -> None:
        if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _Lost("decoder_timeout", f"no answer within {timeout_s:g} s")
        read = os.read(self._stdout.fileno(), _READ_BYTES)
        if not read:
            raise self._ended()
        self._buffer += read

    def _ended(self) -> _Lost:
        return _Lost("decoder_died", f"the process ended with code {self._process.wait()}")
