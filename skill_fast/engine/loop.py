"""The training loop: one optimizer step after the other, from where a checkpoint left off to the end of the course."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from skill_fast.data.batch import Batch
from skill_fast.data.loader import Loader
from skill_fast.engine.checkpoint import Checkpointer
from skill_fast.engine.cpu_precision import warning
from skill_fast.engine.not_finite import NotFiniteSteps
from skill_fast.engine.optimizer import Course, StepValues
from skill_fast.engine.student import Engine
from skill_fast.engine.teacher import ShardedTeacher
from skill_fast.errors import Preempted
from skill_fast.kernels import describe
from skill_fast.methods import METHODS, Method
from skill_fast.models.speed import attention_backend
from skill_fast.telemetry.clock import Clock
from skill_fast.telemetry.collapse import CollapseWatch
from skill_fast.telemetry.sinks import Sinks

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Look(Protocol):
    """Called with the step at every logged step, on all ranks: figures to log beside the others, often none."""

    def __call__(self, step: int) -> Mapping[str, float]: ...

    def close(self) -> None: ...


@dataclass
class Run:
    """Everything that a run is made of, and how far it is."""

    engine: Engine
    teacher: ShardedTeacher
    method: Method
    loader: Loader
    course: Course
    checkpointer: Checkpointer
    export: Callable[[int], None]
    """Called with the step at every checkpoint, on all ranks: writes the encoder."""
    not_finite: NotFiniteSteps
    looks: Sequence[Look] = ()
    """At held-out products, say; closed with the run."""
    step: int = 0
    """Optimizer steps done, those that were skipped for non-finite gradients included."""
    _collapse: CollapseWatch = field(init=False)

    def __post_init__(self) -> None:
        names = (name for name, kind in METHODS.items() if kind is type(self.method))
        self._collapse = CollapseWatch(next(names, "skill"))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()
        for look in self.looks:
            look.close()

    def __str__(self) -> str:
        engine, loader, course = self.engine, self.loader, self.course
        slow = warning(engine.precision, engine.device.type)
        return (
            f"{loader.sampler.photographs:,} photographs, {loader.steps_per_epoch} steps an epoch; "
            f"steps {self.step} to {course.total_steps} of {engine.global_batch} products\n"
            f"{engine.world_size} x {engine.device.type}, {engine.precision}, ZeRO {engine.stage}, "
            f"{describe(engine.device)}, {self._attention()}, gradient clipping by global norm"
            + (f"\n{slow}" if slow else "")
        )

    def _attention(self) -> str:
        backbone, engine = self.method.student.backbone, self.engine
        chosen = [
            f"{attention_backend(backbone, engine.device, engine.dtype, g.size)} at {g.size}"
            for g in self.method.views()
        ]
        return f"attention: {', '.join(chosen)}"

    def sinks(self, run_folder: Path) -> Sinks:
        """Where this run's numbers go; ranks other than 0 write nothing."""
        return Sinks(
            run_folder if self.engine.rank == 0 else None,
            total_steps=self.course.total_steps,
            steps_per_epoch=self.loader.steps_per_epoch,
            global_batch=self.engine.global_batch,
            resumed_step=self.step,
        )

    def resume(self, allow_change: bool = False) -> None:
        """Go back to the newest whole checkpoint, or stay at step 0 where there is none."""
        state = self.checkpointer.resume(allow_change)
        if state is not None:
            self.step = state["step"]
            self.not_finite.resume(state["not_finite_steps"], self.step)
            self.loader.load_state_dict(state["loader"])
            self.method.load_state_dict(state["method"])

    def save(self) -> None:
        """Write a checkpoint of this moment, and the encoder beside it."""
        state = {
            "step": self.step,
            "not_finite_steps": self.not_finite.steps,
            "loader": self.loader.state_dict(),
            "method": self.method.state_dict(),
        }
        self.checkpointer.save(self.step, state)
        self.export(self.step)

    def train(self, sinks: Sinks, log_every: int, checkpoint_every: int) -> None:
        """Train until the course ends.

        ::

            for each step: for each micro-batch: loss = method.loss(student, crops); backward
                           engine.step()
                           where it was applied: teacher <- EMA(student), center <- EMA(teacher's logits)

        The host runs ahead of the device; it waits for it when a step is logged or saved. Raises Preempted after
        SIGTERM or SIGUSR1, with a checkpoint written; NotFinite where ``NotFiniteSteps`` says so, with the last
        checkpoint kept.
        """
        batches, clock = iter(self.loader), Clock()
        with _collected_by_hand(), _asked_to_stop() as asked:
            while self.step < self.course.total_steps:
                values = self.course[self.step]
                with clock.step():
                    tensors = self.one_step(batches, values, clock)
                self.step += 1
                at_end = self.step == self.course.total_steps
                log = self.step % log_every == 0 or at_end
                save = at_end or self.step % checkpoint_every == 0
                if log or save:
                    clock.sync("not finite", self.not_finite.look)
                if log:
                    with clock.phase("sync:metrics"):
                        logged: dict[str, Tensor | float] = {**self._mean_over_ranks(tensors)}
                    if self.looks:
                        with clock.phase("watch"):
                            for look in self.looks:
                                logged |= look(self.step)
                    with clock.phase("sync:metrics"):
                        row = sinks.log(self.step, values, logged, clock)
                    self._warn(row)
                # Ranks get a signal at different moments: they agree, where they meet anyway.
                stop = (log or self.engine.world_size == 1) and self._any_rank(asked)
                if save or stop:
                    self.not_finite.look()
                    self.save()
                    gc.collect()
                if stop and not at_end:
                    raise Preempted(
                        f"a signal asked for a stop: a checkpoint of step {self.step} is written",
                        change="run the same command again to go on from there",
                    )

    def one_step(self, batches: Iterator[Batch], values: StepValues, clock: Clock) -> dict[str, Tensor]:
        """One optimizer step; returns device tensors to log, means over this rank's micro-batches."""
        engine, method = self.engine, self.method
        engine.set_schedules(values.lr, values.weight_decay, values.last_layer_frozen, values.peak_lr)
        logged: dict[str, Tensor] = {}
        products = []
        for micro_step in range(engine.micro_steps):
            batch = next(batches)
            clock.add("data_wait", batch.wait_ms)
            products.append(batch.products)
            crops = {name: crop.to(engine.dtype) for name, crop in batch.crops.items()}
            loss, tensors = method.loss(engine, crops, values.teacher_temp, batch.labels)
            if micro_step == engine.micro_steps - 1:
                method.reduce()
            engine.backward(loss)
            engine.step()
            for name, tensor in tensors.items():
                logged[name] = logged.get(name, 0) + tensor / engine.micro_steps
        finite = engine.finite
        self.teacher.update(values.ema_momentum, finite)
        method.commit(finite)
        self.not_finite.note(self.step + 1, finite, np.concatenate(products))
        return logged | {"grad_norm": engine.grad_norm}

    def _warn(self, row: Mapping[str, Any]) -> None:
        center = self.method.state_dict().get("center")
        wrong = self._collapse(row if center is None else {**row, "prototypes": center.numel()})
        if wrong and self.engine.rank == 0:
            print(f"step {self.step}: {wrong}", file=sys.stderr)

    def _mean_over_ranks(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.engine.world_size == 1:
            return tensors
        stacked = torch.stack([tensor.float() for tensor in tensors.values()])
        dist.all_reduce(stacked)
        return dict(zip(tensors, stacked / self.engine.world_size))

    def _any_rank(self, asked: list[int]) -> bool:
        if self.engine.world_size == 1:
            return bool(asked)
        flag = torch.tensor(len(asked), device=self.engine.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


@contextmanager
def _collected_by_hand() -> Iterator[None]:
    """Keep the garbage collector from pausing one rank while the others wait; it runs at checkpoints."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGUSR1 in a list; the second one ends the process at once, as without this."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, note) for each in SIGNALS}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
