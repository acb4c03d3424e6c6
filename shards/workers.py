"""Photographs -> JPEGs in several processes, results in the order of the tasks.

A worker is a fresh interpreter (``python -m shards.workers``) that speaks over its pipes: nothing of the caller,
neither its threads nor its imports, is carried over, so a training process that holds a GPU may build shards too. A
decoder that crashes or hangs costs its photograph, not the build.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import shards
from shards.errors import Failure
from shards.normalize import Jpeg, Normalization, normalize_file, normalize_image
from shards.rejects import Rejected
from shards.sources.drawing import Drawing, draw
from shards.sources.product import Photograph

TIMEOUT_S = 60.0
"""For one photograph; a healthy 50-megapixel one takes about 2 s."""
AHEAD = 16
"""Photographs a worker."""
Outcome = Jpeg | tuple[str, str]
"""A JPEG, or the reason and detail of its rejection."""
_LENGTH = struct.Struct("<Q")


def normalize(photograph: Photograph, how: Normalization) -> Outcome:
    try:
        if isinstance(photograph, Drawing):
            return normalize_image(draw(photograph), how)
        return normalize_file(photograph, how)
    except Rejected as rejected:
        return rejected.reason, rejected.detail


class Pool:
    """``submit`` gives a Future of an Outcome; with one worker the work is done at once, in this process."""

    def __init__(self, workers: int, how: Normalization) -> None:
        self.workers, self.how = max(1, workers), how
        # Last in, first out: a small build starts no more processes than it can keep busy.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._threads = ThreadPoolExecutor(self.workers) if self.workers > 1 else None
        for _ in range(self.workers if self._threads else 0):
            self._idle.put(None)

    @property
    def ahead(self) -> int:
        """Photographs that may be under way or wait for their turn to be taken: bounds the memory."""
        return AHEAD * self.workers if self._threads is not None else 0

    def submit(self, photograph: Photograph) -> Future[Outcome]:
        if self._threads is not None:
            return self._threads.submit(self._in_worker, photograph)
        done: Future[Outcome] = Future()
        done.set_result(normalize(photograph, self.how))
        return done

    def close(self) -> None:
        if self._threads is None:
            return
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self.workers):
            worker = self._idle.get()
            if worker is not None:
                worker.close()

    def _in_worker(self, photograph: Photograph) -> Outcome:
        worker = self._idle.get()
        try:
            if worker is not None and not worker.alive:
                worker.close()
                worker = None
            worker = worker or _Worker()
            return worker.ask(photograph, self.how)
        except _Lost as lost:
            worker = None
            return lost.reason, lost.detail
        finally:
            self._idle.put(worker)


class _Lost(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class _Worker:
    def __init__(self) -> None:
        root = str(Path(shards.__file__).resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shards.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            assert self._exchange(b"") == "ready"
        except _Lost as lost:
            raise Failure(
                f"a worker process did not start: {lost.detail}",
                change="build with --workers 1, which needs no further process",
            ) from lost

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, photograph: Photograph, how: Normalization) -> Outcome:
        return self._exchange(pickle.dumps((photograph, how)))

    def close(self) -> None:
        """End the worker: it leaves when its input ends."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        stdout.close()
        self._process.wait()

    def _exchange(self, message: bytes) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(_LENGTH.pack(len(message)) + message)
            stdin.flush()
            if not select.select([stdout], [], [], TIMEOUT_S)[0]:
                self._process.kill()
                self.close()
                raise _Lost("decoder_timeout", f"no answer within {TIMEOUT_S:.0f} s")
            return _receive(stdout)
        except (EOFError, BrokenPipeError) as error:
            self.close()
            raise _Lost("decoder_died", f"the process ended with code {self._process.returncode}") from error


def _receive(stream: IO[bytes]) -> Any:
    """The next message, () for an empty one; raises EOFError at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    size = _LENGTH.unpack(head)[0]
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    # Both ends are this program: nothing foreign reaches pickle.
    return pickle.loads(body) if body else ()  # noqa: S301


def serve(requests: IO[bytes], answers: IO[bytes], answer: Callable[..., Outcome] = normalize) -> None:
    """Answer requests until they end; an empty request asks whether the worker is ready."""
    while True:
        try:
            request = _receive(requests)
        except EOFError:
            return
        body = pickle.dumps(answer(*request) if request else "ready")
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()


def main() -> None:
    # The keyboard stops the parent, which ends its workers; they need not complain as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # A decoder that prints must not speak into the pipe.
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
