"""A thread that works ahead."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from typing import Any

POLL_S = 0.1


class Background:
    """Runs ``work(put)`` in a thread; ``get`` hands out what it put, in order, and raises what it raised.

    ``put`` waits while ``depth`` items are ready and returns whether to go on; work returns when it says no.
    """

    def __init__(self, work: Callable[[Callable[[Any], bool]], None], depth: int) -> None:
        self._ready: queue.Queue[Any] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="loader", daemon=True)
        # A thread still in DALI while the interpreter goes down aborts the process, and its exit code is lost.
        atexit.register(self.stop)
        self._thread.start()

    def get(self) -> Any:
        while True:
            try:
                return self._ready.get(timeout=POLL_S)
            except queue.Empty:
                # Looked at only once nothing is ready: what was made before the failure is handed out first.
                if self._failure is not None and self._ready.empty():
                    raise self._failure from None

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        atexit.unregister(self.stop)

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
