"""A thread that works ahead, and a watch over whether it still does."""

from __future__ import annotations

import atexit
import faulthandler
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from skill_fast.errors import StorageFailure

POLL_S = 0.1
LEAVE_S = 5.0
"""How long a thread that was found stuck is waited for; then it is left to the end of the process."""
STOP_S = 60.0
"""The same for one that is asked to stop: longer than a batch takes, shorter than a user waits after Ctrl-C."""


class Background:
    """Runs ``work(put)`` in a thread; ``get`` hands out what it put, in order, and raises what it raised.

    ``put`` waits while ``depth`` items are ready and returns whether to go on; work returns when it says no. Where
    nothing came for ``stuck_after_s`` while ``get`` waited, ``get`` writes the stacks of all threads to stderr and
    raises StorageFailure: a read that never returns can not be interrupted, only left.
    """

    def __init__(self, work: Callable[[Callable[[Any], bool]], None], depth: int, stuck_after_s: float) -> None:
        self._ready: queue.Queue[Any] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._stuck_after_s, self._stuck = stuck_after_s, False
        self._thread = threading.Thread(target=self._run, args=(work,), name="loader", daemon=True)
        # A thread still in DALI while the interpreter goes down aborts the process, and its exit code is lost.
        atexit.register(self.stop)
        self._thread.start()

    def get(self) -> Any:
        start = time.monotonic()
        while True:
            try:
                return self._ready.get(timeout=POLL_S)
            except queue.Empty:
                # Looked at only once nothing is ready: what was made before the failure is handed out first.
                if self._failure is not None and self._ready.empty():
                    raise self._failure from None
                if time.monotonic() - start > self._stuck_after_s:
                    raise self._give_up() from None

    def stop(self) -> None:
        """Let the thread end, and wait for it; one that does not in time is left, its stack on stderr."""
        self._stopped.set()
        limit_s = LEAVE_S if self._stuck else min(STOP_S, self._stuck_after_s)
        self._thread.join(limit_s)
        if self._thread.is_alive() and not self._stuck:
            self._tell_stacks()
            print(f"the loader's thread did not end within {limit_s:g} s and is left", file=sys.__stderr__)
        atexit.unregister(self.stop)

    def _tell_stacks(self) -> None:
        self._stuck = True
        sys.stderr.flush()
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)

    def _give_up(self) -> StorageFailure:
        self._tell_stacks()
        return StorageFailure(
            f"no batch came for {self._stuck_after_s:g} s: the loader's thread is stuck (all stacks are on stderr)",
            allowed="a read or a decode that ends within --loader.stuck-after-s",
            change="look at the storage that holds the shards, then resume from the last checkpoint; "
            "or a larger --loader.stuck-after-s where storage is that slow",
        )

    def _run(self, work: Callable[[Callable[[Any], bool]], None]) -> None:
        try:
            work(self._put)
        except BaseException as failure:
            self._failure = failure

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False
