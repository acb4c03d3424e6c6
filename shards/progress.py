"""One line that follows a build on a terminal: images, rejects, images/s, time left. Elsewhere it stays quiet."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress as bars
from rich.console import Console

from shards.build import Progress


class ProgressLine:
    """Context manager; ``show`` is the ``progress`` of ``shards.build.build``."""

    def __init__(self, console: Console) -> None:
        self.last: Progress | None = None
        self._started = time.monotonic()
        self._bar = bars.Progress(
            bars.TextColumn("{task.completed:,.0f}/{task.total:,.0f} images"),
            bars.BarColumn(bar_width=24),
            bars.TextColumn("{task.fields[images_per_s]:,.0f} images/s · {task.fields[rejected]} rejected · left"),
            bars.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("build", total=1, images_per_s=0.0, rejected=0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, done: Progress) -> None:
        self.last = done
        self._bar.update(
            self._task,
            total=done.images_total,
            completed=done.images_seen,
            images_per_s=done.images_seen / max(self.seconds, 1e-9),
            rejected=done.images_rejected,
        )

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
