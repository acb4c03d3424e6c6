"""Ways to bring batches' bytes and plans to the training process: a thread, a process, DALI's parallel external source.

Each is a context that takes a ``Source`` and yields a call for the next batch, made up to ``AHEAD`` batches before its
use; what fails where batches are made is raised by that call. What each costs is measured by ``benchmarks.feeding``.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from typing import Any

import numpy as np

from benchmarks.catalogues import MIB
from skill_fast.data.index import open_index
from skill_fast.data.pairs import PairSource
from skill_fast.data.pipeline import crop_inputs
from skill_fast.data.plan import Planner
from skill_fast.data.reader import Reader
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import ViewGroup

VIEWS = (ViewGroup("global", (0, 1), 224, (0.4, 1.0)), ViewGroup("local", (0,) * 8, 96, (0.05, 0.4)))
AHEAD = 3
SLOT_BYTES = 64 * MIB
Feed = dict[str, Any]


class Source:
    """Batch ``step``: the inputs of the pixel graph; made in whichever process and thread calls it."""

    def __init__(self, data: str, batch: int, pace: float) -> None:
        self._data, self._batch, self._pace = data, batch, pace
        self._parts: tuple[Sampler, Planner, PairSource] | None = None
        self._began = 0.0

    def __call__(self, step: int) -> Feed:
        if self._parts is None:  # opened where it is used: descriptors do not travel
            index = open_index(self._data)
            sampler, planner = Sampler(index, index.select("train"), self._batch, 0), Planner(index, VIEWS, 0)
            self._parts = sampler, planner, PairSource(sampler, planner, Reader(index), second=True)
            self._began = time.perf_counter() - step * self._batch / (self._pace or np.inf)
        sampler, planner, pairs = self._parts
        epoch, within = divmod(step, sampler.steps_per_epoch)
        positions = sampler.rank_positions(within)
        if self._pace:
            time.sleep(max(0.0, self._began + step * self._batch / self._pace - time.perf_counter()))
        images, jpegs, _ = pairs.read(epoch, positions)
        return crop_inputs(VIEWS, planner.crops(epoch, positions, images), jpegs, bends=True, erases=True)


@contextmanager
def by_thread(source: Source, batch: int) -> Iterator[Callable[[], Feed]]:
    ready: queue.Queue[Feed | Exception] = queue.Queue(AHEAD)
    over = threading.Event()

    def work() -> None:
        step, made = 0, None
        while not over.is_set() and not isinstance(made, Exception):
            try:
                made = source(step)
            except Exception as failure:
                made = failure
            while not over.is_set():
                try:
                    ready.put(made, timeout=0.05)
                    break
                except queue.Full:
                    continue
            step += 1

    def get() -> Feed:
        found = ready.get()
        if isinstance(found, Exception):
            raise found
        return found

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield get
    finally:
        over.set()
        thread.join()


@contextmanager
def by_process(source: Source, batch: int) -> Iterator[Callable[[], Feed]]:
    """Bytes and plans through shared memory, one slot a batch under way; only their places through a pipe."""
    context = multiprocessing.get_context("spawn")
    slots = [shared_memory.SharedMemory(create=True, size=SLOT_BYTES) for _ in range(AHEAD + 1)]
    free, ready = context.Queue(), context.Queue()
    for place in range(len(slots)):
        free.put(place)
    child = context.Process(target=_serve, args=(source, [slot.name for slot in slots], free, ready), daemon=True)
    child.start()
    held: list[int] = []

    def get() -> Feed:
        if held:
            free.put(held.pop())
        found = _answered(ready, child)
        if isinstance(found, Exception):
            raise found
        place, head, spans = found
        held.append(place)
        buffers = [slots[place].buf[start:end] for start, end in spans]
        return pickle.loads(head, buffers=buffers)  # noqa: S301 - this program wrote it

    try:
        yield get
    finally:
        child.terminate()
        child.join()
        for slot in slots:
            try:
                slot.close()
            except BufferError:  # arrays of the last batch still look into it; the memory goes with them
                slot._mmap = slot._buf = None  # type: ignore[attr-defined]
            slot.unlink()


def _serve(source: Source, names: list[str], free: Any, ready: Any) -> None:
    slots = [shared_memory.SharedMemory(name, track=False) if sys.version_info >= (3, 13) else
             shared_memory.SharedMemory(name) for name in names]  # fmt: skip
    step = 0
    try:
        while True:
            _serve_one(source(step), slots, free, ready)
            step += 1
    except Exception as failure:
        ready.put(_whole(failure))


def _serve_one(feed: Feed, slots: list[shared_memory.SharedMemory], free: Any, ready: Any) -> None:
    place, spans, start, views = free.get(), [], 0, []
    head = pickle.dumps(feed, protocol=5, buffer_callback=views.append)
    for view in views:
        raw = view.raw()
        slots[place].buf[start : start + raw.nbytes] = raw
        spans.append((start, start + raw.nbytes))
        start += raw.nbytes
    ready.put((place, head, spans))


def _answered(ready: Any, child: Any) -> Any:
    """What the child sent next; RuntimeError where it ended without a word, killed for memory for one."""
    while True:
        alive = child.is_alive()
        try:
            return ready.get(timeout=0.5)
        except queue.Empty:
            if not alive:
                raise RuntimeError(f"the feeding process ended with {child.exitcode}") from None


def _whole(failure: Exception) -> Exception:
    """An exception that comes through a pipe as it went in; what would not is told in words."""
    try:
        pickle.loads(pickle.dumps(failure))  # noqa: S301 - this program wrote it
    except Exception:
        return RuntimeError(f"{type(failure).__name__}: {failure}")
    return failure


@contextmanager
def by_dali(source: Source, batch: int) -> Iterator[Callable[[], Feed]]:
    """``external_source(parallel=True)``: DALI's own worker process and shared memory."""
    from nvidia.dali import Pipeline, fn

    names = sorted(source(0))
    source._parts = None
    pipeline = Pipeline(
        batch_size=batch, num_threads=1, device_id=None, py_num_workers=1, py_start_method="spawn",
        prefetch_queue_depth=AHEAD, exec_dynamic=False,
    )  # fmt: skip
    with pipeline:
        outputs = fn.external_source(
            source=_ByIteration(source, names), num_outputs=len(names), parallel=True, batch=True,
            prefetch_queue_depth=AHEAD,
        )  # fmt: skip
        pipeline.set_outputs(*outputs)
    pipeline.build()
    yield lambda: dict(zip(names, pipeline.run()))


class _ByIteration:
    def __init__(self, source: Source, names: list[str]) -> None:
        self._source, self._names = source, names

    def __call__(self, batch_info: Any) -> tuple[Any, ...]:
        feed = self._source(batch_info if isinstance(batch_info, int) else batch_info.iteration)
        return tuple([np.asarray(sample) for sample in feed[name]] for name in self._names)


WAYS = {"thread": by_thread, "process": by_process, "dali parallel source": by_dali}
