"""A build that can be followed: one line that changes on a terminal, a line every half minute in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from rich import progress as bars
from rich.console import Console
from rich.live import Live
from rich.text import Text

from shards.counting import Progress

LOG_EVERY_S = 30.0
COPY_EVERY_S = 0.1
TOP_REASONS = 3


class ProgressLine:
    """Context manager; ``show`` is the ``progress`` of ``shards.build.build``.

    Rates are those of this run: what an interrupted one had done counts in neither images/s nor the time left.
    """

    def __init__(
        self, console: Console, *, log_every_s: float = LOG_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.last: Progress | None = None
        self._shown, self._shown_at = Progress(), float("-inf")
        self._console, self._clock, self._log_every_s = console, clock, log_every_s
        self._started = clock()
        self._live = Live(console=console, transient=True, get_renderable=self._text) if console.is_terminal else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._log_on, name="progress", daemon=True)

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    def show(self, done: Progress) -> None:
        self.last = done
        if self._clock() - self._shown_at >= COPY_EVERY_S:
            # The line is drawn by another thread, while the build goes on counting.
            self._shown = replace(done, rejected=done.rejected.copy(), duplicates=done.duplicates.copy())
            self._shown_at = self._clock()

    def line(self) -> str:
        """Images done of all, images/s, MB/s read and written, rejects by reason, duplicates, time left."""
        return progress_text(self._shown, self.seconds)

    def _text(self) -> Text:
        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def _log_on(self) -> None:
        """Also while one photograph takes long, or a source is being read, a log shows that the build lives."""
        while not self._ended.wait(self._log_every_s):
            self._console.print(self.line(), soft_wrap=True)

    def __enter__(self) -> ProgressLine:
        if self._live is not None:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        else:
            self._thread.join()


@contextmanager
def bytes_line(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows (bytes, bytes in all) on a terminal while ``verify``, ``merge`` or ``repair`` goes through the tars."""
    columns = (bars.TextColumn(what), bars.BarColumn(bar_width=24), bars.DownloadColumn(), bars.TransferSpeedColumn())
    bar = bars.Progress(
        *columns, bars.TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def progress_text(done: Progress, seconds: float) -> str:
    """The state of a build after ``seconds`` of this run, in one line."""
    fresh = done.images_seen - done.resumed
    rate = fresh / max(seconds, 1e-9)
    parts = [
        f"{done.images_seen:,}/{done.images_total:,} images",
        f"{rate:,.0f} images/s",
        f"{(done.bytes_read - done.resumed_read) / 1e6 / max(seconds, 1e-9):,.1f} MB/s in",
        f"{(done.bytes_written - done.resumed_written) / 1e6 / max(seconds, 1e-9):,.1f} MB/s out",
    ]
    if done.resumed:
        parts.append(f"{done.resumed:,} resumed")
    if done.rejected:
        parts.append(f"{done.rejected.total():,} rejected: {_top(done)}")
    if done.duplicates:
        parts.append(f"{done.duplicates.total():,} duplicates")
    if fresh and done.images_total > done.images_seen:
        parts.append(f"{duration((done.images_total - done.images_seen) / rate)} left")
    return " · ".join(parts)


def _top(done: Progress) -> str:
    most = done.rejected.most_common(TOP_REASONS)
    more = len(done.rejected) - len(most)
    return ", ".join(f"{count:,} {reason}" for reason, count in most) + (f", {more} more reasons" if more else "")


def duration(seconds: float) -> str:
    """
    >>> duration(59), duration(3 * 60 + 5), duration(26 * 3600)
    ('59 s', '3 min', '26 h 00 min')
    """
    minutes = int(seconds / 60 + 0.5)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
