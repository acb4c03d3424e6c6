"""A full verification in several processes: a child for each run of shards, ``workers`` of them at a time."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import shards
from shards.errors import Failure
from shards.walk import Finding, Walk

SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COMMAND = ("-m", "shards.walk")
_Answer = tuple[int, list[Finding]]


def walked_in_children(walks: Sequence[Walk], workers: int) -> Iterator[_Answer]:
    """As ``walk.walked`` for all of ``walks``, the shards in the order in which they are done.

    A child that dies costs a finding for each of the shards that it had not answered for. Raises Failure where a
    child reports an error of another kind than a finding.
    """
    answers: queue.SimpleQueue[_Answer | Exception | None] = queue.SimpleQueue()
    children: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def run(walk: Walk) -> None:
        try:
            if not stopped.is_set():
                for answer in _child(walk, children):
                    answers.put(answer)
        except Exception as error:  # it is raised again where the answers are taken
            answers.put(error)
        answers.put(None)

    threads = ThreadPoolExecutor(workers, "shards-walk")
    try:
        for walk in walks:
            threads.submit(run, walk)
        left = len(walks)
        while left:
            answer = answers.get()
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                left -= 1
            else:
                yield answer
    finally:
        stopped.set()
        for child in tuple(children):
            child.kill()
        threads.shutdown()


def _child(walk: Walk, children: set[subprocess.Popen[bytes]]) -> Iterator[_Answer]:
    root = str(Path(shards.__file__).resolve().parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(SINGLE_THREAD, "1")},
            # The keyboard stops the parent, which ends its children; they need not complain as well.
            process_group=0,
        )
        assert child.stdin is not None and child.stdout is not None
        children.add(child)
        waiting = list(range(walk.first, walk.last))
        try:
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(pickle.dumps(walk))
            for line in child.stdout:
                number, findings = json.loads(line)
                waiting.remove(number)
                yield number, [Finding(**finding) for finding in findings]
            code = child.wait()
        finally:
            child.kill()
            child.stdout.close()
            child.wait()
            children.discard(child)
        if code:
            complaints.seek(0)
            yield from _unanswered(walk, waiting, code, complaints.read().decode("utf-8", "replace"))


def _unanswered(walk: Walk, waiting: list[int], code: int, complaint: str) -> Iterator[_Answer]:
    if code > 0:
        raise Failure(f"a process that reads the shards ended with code {code}: {complaint.strip() or 'no word'}")
    for place, number in enumerate(waiting):
        found = f"the process ended by signal {-code}" if place == 0 else "not read: the process had ended before"
        yield number, [Finding(walk.shards[number]["name"], "reading the shard", "an end", found)]
