"""Measurements in processes of their own, in rounds over all of them, so that a slow minute hits all rows alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import psutil

from skill_fast.errors import Failure

SO_FAR = "so far: "
"""What a line with an unfinished measurement begins with."""
CLOSING_S = 5.0
"""After SIGTERM, before SIGKILL."""
Record = dict[str, Any]
J = TypeVar("J")


class CanNot(Exception):
    """This contender can not run here; the text says why and stands in the table."""


def answer(measure: Callable[[], Record]) -> None:
    """In the process of a measurement: print its result, or why there is none, as one JSON object."""
    try:
        found = measure()
    except CanNot as reason:
        found = {"can_not": str(reason)}
    except Failure as failure:
        found = {"can_not": " ".join(str(failure).split())}
    except AssertionError as failed:
        found = {"can_not": f"the gate: {failed}"}
    print(json.dumps(found), flush=True)


def tell(found: Record) -> None:
    """In the process of a measurement: hand over what it has found so far, in case that it does not come to its end."""
    print(SO_FAR + json.dumps(found), flush=True)


def in_a_process(
    module: str, arguments: Sequence[str], timeout_s: float, so_far: Callable[[Record], None] = lambda _found: None
) -> Record:
    """The object that ``python -m module`` prints last; ``can_not`` with the reason where it did not come to one.

    ``so_far`` gets what the process tells on its way. Where that is all that comes, it is the answer, with the reason
    as ``cut_short``. After ``timeout_s`` the process is killed with all that it started. It stays in this process's
    group, so that a signal to the group ends both.
    """
    command = [sys.executable, "-m", module, *arguments]
    # Threads that wait asleep: by default they spin, and beside any other busy process a CPU's step takes ten times as
    # long. It holds for every contender alike.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    last, late, found = "", threading.Event(), None
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):

        def kill() -> None:
            late.set()
            _signal(started_by(process), signal.SIGKILL)

        timer = threading.Timer(timeout_s, kill)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith(SO_FAR):
                    found = json.loads(line.removeprefix(SO_FAR))
                    so_far(found)
                last = line if line.strip() else last
            process.wait()
        finally:
            timer.cancel()
        errors.seek(0)
        said = [line for line in errors.read().splitlines() if line.strip()]
    if process.returncode == 0 and not last.startswith(SO_FAR):
        return json.loads(last)
    why = f"exit code {process.returncode}: {said[-1] if said else 'no message'}"
    why = f"no figure within {timeout_s:.0f} s" if late.is_set() else why
    return {"can_not": why} if found is None else found | {"cut_short": why}


def end(process: subprocess.Popen[Any], closing_s: float = CLOSING_S) -> None:
    """End a process and all that it started, in whatever sessions: SIGTERM, and SIGKILL to what lives ``closing_s`` on.

    torchrun gives each rank a session of its own, so that a signal to the launcher's group reaches no rank.
    """
    tree, began = started_by(process), time.monotonic()
    try:
        _signal(tree, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=closing_s)
        psutil.wait_procs(tree, timeout=max(0.0, began + closing_s - time.monotonic()))
    finally:  # a second Ctrl-C too
        left = [*tree, *started_by(process)]
        _signal(left, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(left, timeout=closing_s)


def started_by(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """The process and its descendants; none once it has ended, for then they are no longer its children."""
    with suppress(psutil.NoSuchProcess):
        itself = psutil.Process(process.pid)
        return [itself, *itself.children(recursive=True)]
    return []


def _signal(tree: Sequence[psutil.Process], which: signal.Signals) -> None:
    for each in tree:
        with suppress(psutil.NoSuchProcess):  # raised too where another process has the number by now
            each.send_signal(which)


def rounds(
    jobs: Sequence[J],
    measure: Callable[..., Record],
    *,
    repeats: int,
    budget_s: float,
    after: Callable[[list[list[Record]]], None] = lambda _found: None,
    telling: bool = False,
) -> list[list[Record]]:
    """Each job's results, one a round, as many rounds as the budget allows.

    A job that ``can_not`` is not tried again, and one of the first round for which no time was left says so. ``after``
    is called with all results so far after each measurement; with ``telling`` it is ``measure(job, so_far)``, and
    ``after`` is called with each result that a measurement hands to ``so_far`` before its end too.
    """
    found: list[list[Record]] = [[] for _ in jobs]
    start = time.perf_counter()
    for repeat in range(repeats):
        for place, job in enumerate(jobs):
            late = time.perf_counter() - start > budget_s
            if late and not found[place]:
                found[place].append({"can_not": f"not begun within the budget of {budget_s:.0f} s"})
            elif not late and len(found[place]) == repeat and not any("can_not" in record for record in found[place]):

                def so_far(record: Record, place: int = place) -> None:
                    after([[*repeats, record] if number == place else repeats for number, repeats in enumerate(found)])

                found[place].append(measure(job, so_far) if telling else measure(job))
            else:
                continue
            after(found)
    return found


def failures(found: Sequence[Sequence[Record]]) -> list[str]:
    """Of the jobs that failed, why; one that was not begun in time has not failed."""
    ended = [repeats[-1].get("can_not", "not begun") for repeats in found if repeats]
    return [why for why in ended if not why.startswith("not begun")]


def demand_a_figure(found: Sequence[Sequence[Record]]) -> None:
    """Raises Failure where jobs failed and none has a figure: records that only say why are no measurement."""
    failed = failures(found)
    if failed and all("can_not" in repeat for repeats in found for repeat in repeats):
        raise Failure(f"none of {len(found)} could run: {failed[0]}", change="what the records say of each")
