"""A build that is asked to stop: SIGINT (the keyboard) and SIGTERM end it cleanly, with a word on how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from shards.errors import Failure


class Stopped(Failure):
    """Someone stopped the build; ``exit_code`` is 128 and the signal's number."""

    def __init__(self, signal_number: int, came: str, *, change: str) -> None:
        super().__init__(came, change=change)
        self.exit_code = 128 + signal_number


class _Terminated(KeyboardInterrupt):
    """SIGTERM, on the same way out as the keyboard."""


@contextmanager
def stoppable(stand: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Turns SIGINT and SIGTERM within the block into Stopped, after everything in it was closed.

    stand: (what is done so far, how to go on). SIGTERM is left to whoever handles it already, and to the main thread.
    """
    own = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if own:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
        done, change = stand()
        raise Stopped(number, f"stopped by {number.name}: {done}", change=change) from None
    finally:
        if own:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated
