import io
import threading
import time
from collections import Counter

import pytest
from rich.console import Console

from shards.counting import Progress
from shards.progress import ProgressLine, duration, progress_text


def test_one_line_says_all_that_is_known() -> None:
    done = Progress(
        images_total=1_200_000,
        images_seen=300_000,
        images_written=299_000,
        rejected=Counter(truncated=700, missing_file=200, bad_row=60, empty_file=40),
        resumed=100_000,
        bytes_read=50_000_000,
        bytes_written=20_000_000,
        duplicates=Counter(near=11, exact=1),
    )
    # 200,000 photographs in 10 s by this run; 900,000 to go take 45 s.
    assert progress_text(done, 10.0) == (
        "300,000/1,200,000 images · 20,000 images/s · 5.0 MB/s in · 2.0 MB/s out · 100,000 resumed · "
        "1,000 rejected: 700 truncated, 200 missing_file, 60 bad_row, 1 more reasons · 12 duplicates · 45 s left"
    )


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert progress_text(Progress(), 0.0) == "0/0 images · 0 images/s · 0.0 MB/s in · 0.0 MB/s out"
    resumed_only = Progress(images_total=9, images_seen=4, images_written=4, resumed=4)
    assert "left" not in progress_text(resumed_only, 1.0)
    finished = Progress(images_total=4, images_seen=4, images_written=4)
    assert "left" not in progress_text(finished, 1.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "60 min"), (5400, "1 h 30 min"), (360_000, "100 h 00 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_shows_life_even_while_nothing_is_done() -> None:
    written = io.StringIO()
    with ProgressLine(Console(file=written, highlight=False), log_every_s=0.02) as line:
        line.show(Progress(images_total=10, images_seen=3, images_written=3))
        deadline = time.monotonic() + 20
        while written.getvalue().count("3/10 images") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = written.getvalue().splitlines()
    assert len(lines) >= 2 and all(text.startswith("3/10 images") for text in lines)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_short_build_leaves_no_line_in_a_log() -> None:
    written = io.StringIO()
    with ProgressLine(Console(file=written)) as line:
        line.show(Progress(images_total=1, images_seen=1, images_written=1))
    assert written.getvalue() == ""


def test_the_line_is_drawn_from_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build goes on counting in its own thread; a Counter that grows can not be gone through."""
    monkeypatch.setattr("shards.progress.COPY_EVERY_S", 0.0)
    line, done = ProgressLine(Console(file=io.StringIO())), Progress(images_total=9, images_seen=1)
    done.rejected["truncated"] += 1
    line.show(done)
    done.rejected["bad_row"] += 1
    assert "1 rejected: 1 truncated" in line.line()
    line.show(done)
    assert "2 rejected: 1 truncated, 1 bad_row" in line.line()


def test_on_a_terminal_one_line_changes_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("shards.progress.COPY_EVERY_S", 0.0)
    console = Console(file=written, force_terminal=True, width=60, highlight=False)
    with ProgressLine(console) as line:
        for seen in (1, 2):
            line.show(Progress(images_total=9, images_seen=seen, images_written=seen))
            line._live.refresh()
    text = written.getvalue()
    assert "1/9 images" in text and "2/9 images" in text
    assert max(len(part) for part in text.replace("\r", "\n").splitlines()) < 120
    assert text.rstrip("\x1b[?25h").endswith(("\x1b[2K", "\x1b[1A")), "the line is erased at the end"


def test_the_rate_is_that_of_the_clock() -> None:
    now = [100.0]
    line = ProgressLine(Console(file=io.StringIO()), clock=lambda: now[0])
    line.show(Progress(images_total=100, images_seen=50, images_written=50))
    now[0] = 105.0
    assert line.seconds == 5.0 and "10 images/s" in line.line() and line.line().endswith("5 s left")
