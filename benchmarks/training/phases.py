"""Where a training step's time goes on the device: each part's own time, without what runs inside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks.stopwatch import moment, ms_between
from skill_fast.data.batch import Batch
from skill_fast.engine.loop import Run

REST = "rest"


class Phases:
    """Marks where parts begin and end, by events of the device's stream on a GPU, and waits for nothing.

    ``with marked(run, batches) as (phases, batches): phases.start(); run.one_step(batches, ...); phases.finish_step()``

    ::

        stack = [rest];  entering a part pushes it, leaving pops it
        time between two marks belongs to the part on top of the stack

    On a GPU a part's time contains what its kernels waited for; time in which the host was late is in the part whose
    kernels it queued late. The parts: data, forward teacher, forward student, loss, backward, optimizer, teacher (the
    average), gather (waiting for its all-gather), center, rest.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stack = [REST]
        self._marks: list[tuple[str, Any]] = []
        """(part that begins here, moment)"""

    def enter(self, name: str) -> None:
        self._stack.append(name)
        self._mark()

    def leave(self) -> None:
        self._stack.pop()
        self._mark()

    def start(self) -> None:
        """Begin to count; the time before belongs to nothing."""
        self._marks.clear()
        self._mark()

    def ms(self, steps: int) -> dict[str, float]:
        """Milliseconds a step by part, from ``start`` to the latest mark; waits for the device."""
        names, moments = zip(*self._marks)
        spent: dict[str, float] = defaultdict(float)
        for name, taken_ms in zip(names, ms_between(moments)):
            spent[name] += taken_ms
        return {name: total / steps for name, total in spent.items()}

    def finish_step(self) -> None:
        self._mark()

    def _mark(self) -> None:
        self._marks.append((self._stack[-1], moment(self._device)))

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, marked as the part ``name``."""

        def marked(*arguments: Any, **named: Any) -> Any:
            self.enter(name)
            try:
                return call(*arguments, **named)
            finally:
                self.leave()

        return marked


@contextmanager
def marked(run: Run, batches: Iterator[Batch]) -> Iterator[tuple[Phases, Iterator[Batch]]]:
    """The run's parts marked while inside; the iterator marks the waiting for data."""
    phases = Phases(run.engine.device)
    methods = (
        (run.method, "loss", "loss"),
        (run.method, "reduce", "center"),
        (run.method, "commit", "center"),
        (run.engine, "backward", "backward"),
        (run.engine, "step", "optimizer"),
        (run.teacher, "update", "teacher"),
        (run.teacher, "wait", "gather"),
    )
    handles = [
        *_forward_hooks(run.method.teacher, "forward teacher", phases),
        *_forward_hooks(run.engine.module, "forward student", phases),
    ]
    for owner, attribute, name in methods:
        vars(owner)[attribute] = phases.around(name, getattr(owner, attribute))
    try:
        yield phases, _marked_batches(batches, phases)
    finally:
        for owner, attribute, _ in methods:
            del vars(owner)[attribute]
        for handle in handles:
            handle.remove()


def _forward_hooks(module: nn.Module, name: str, phases: Phases) -> list[Any]:
    return [
        module.register_forward_pre_hook(lambda *_: phases.enter(name)),
        module.register_forward_hook(lambda *_: phases.leave()),
    ]


def _marked_batches(batches: Iterator[Batch], phases: Phases) -> Iterator[Batch]:
    while True:
        phases.enter("data")
        try:
            batch = next(batches)
        finally:
            phases.leave()
        yield batch
