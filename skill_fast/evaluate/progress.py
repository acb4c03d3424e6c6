"""The line that says how far an embedding is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class PhotographsPerSecond(ProgressColumn):
    """Speed since the start, photographs/s."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} photographs/s" if speed else "")


def progress_bar(disable: bool = False) -> Progress:
    """A line that updates on stderr: done, speed, time left."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), PhotographsPerSecond()
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=disable)
