"""The loader: an endless iterator of batches that a thread of its own plans, reads and has DALI turn into crops."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from skill_fast.data.background import Background
from skill_fast.data.batch import Batch
from skill_fast.data.cropper import Cropper, GraphOptions
from skill_fast.data.dali import DTYPES
from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.data.group_sampler import GroupSampler
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.pairs import PairSource
from skill_fast.data.plan import Planner
from skill_fast.data.reader import Reader, SkipLimits
from skill_fast.data.recipes import BY_TYPE
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import GroupBatches, ViewGroup
from skill_fast.errors import BadUsage

__all__ = ["EvaluationLoader", "Loader", "LoaderConfig"]


@dataclass(frozen=True)
class LoaderConfig:
    """How the photographs are read and turned into crops."""

    calibrate: Literal["auto", "on", "off"] = "auto"
    """Whether ``train.py`` measures those of the next three that are left open; auto: on a GPU."""
    threads: int | None = None
    """CPU threads of DALI."""
    prefetch: int | None = None
    """Batches that are worked on ahead, and as many that wait ready."""
    hw_decoder_load: float | None = None
    """Share of a batch that the GPU's hardware decoder takes; 0 for pixels that are the same on every GPU."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    recipes: str = BY_TYPE
    """``by_type``, or the name or file of the recipe that all products follow."""
    type_weights: dict[str, float] = field(default_factory=dict)
    """How often an epoch shows a photograph of a product type, TYPE WEIGHT pairs; types not named once, 0 never."""
    window_shards: int = 16
    """Shards within which an epoch's photographs are shuffled."""
    max_skipped_in_a_row: int = 100
    max_skipped_share: float = 0.001
    skipped_judged_after: int = 1000
    """Photographs read before the share of skipped ones is judged."""
    stuck_after_s: float = 600.0
    """Seconds without a batch after which the run stops with the stacks of all threads: storage that hangs."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BadUsage(f"loader dtype {self.dtype!r}", allowed=", ".join(DTYPES))
        above_0 = (self.stuck_after_s > 0, "stuck-after-s"), (min(self.std) > 0, "std")
        shares = {"hw-decoder-load": self.hw_decoder_load, "max-skipped-share": self.max_skipped_share}
        counts = {"threads": self.threads, "prefetch": self.prefetch, "window-shards": self.window_shards}
        counts["max-skipped-in-a-row"] = self.max_skipped_in_a_row
        wrong = [(name, "more than 0") for right, name in above_0 if not right]
        wrong += [(name, "0 to 1") for name, share in shares.items() if share is not None and not 0 <= share <= 1]
        wrong += [(name, "1 or more") for name, count in counts.items() if count is not None and count < 1]
        if self.calibrate not in ("auto", "on", "off"):
            wrong.append(("calibrate", "auto, on, off"))
        for name, allowed in wrong:
            value = getattr(self, name.replace("-", "_"))
            raise BadUsage(f"--loader.{name} {value}", allowed=allowed, change=f"--loader.{name}")

    def settings(self) -> tuple[int, int, float]:
        """(threads, prefetch, hw_decoder_load), with plain values for what is left open: 2, 2 and 0.65."""
        return self.threads or 2, self.prefetch or 2, 0.65 if self.hw_decoder_load is None else self.hw_decoder_load

    def settled(self) -> LoaderConfig:
        """The same with ``settings`` filled in."""
        threads, prefetch, hw_decoder_load = self.settings()
        return replace(self, threads=threads, prefetch=prefetch, hw_decoder_load=hw_decoder_load)


@dataclass(frozen=True)
class _Place:
    epoch: int
    step: int
    micro_step: int


class Loader:
    """Batches of one rank, epoch after epoch, without end.

    A batch is one micro step: ``micro_steps`` of them, one after another with the same ``step``, make this rank's
    part of a global batch. Crops are a pure function of (seed, epoch, position, view): world size, micro steps,
    threads and the moment of a resume do not change them. ``state_dict`` is the place of the next batch to be
    handed out; it counts whole steps, so save between steps. Failures of the background thread are raised by
    ``next``.
    """

    def __init__(
        self,
        index: CatalogueIndex,
        views: Sequence[ViewGroup],
        *,
        batches: GroupBatches | None = None,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        micro_steps: int = 1,
        seed: int = 0,
        split: str | None = "train",
        config: LoaderConfig | None = None,
        device: torch.device | str = "cpu",
        skipped_path: str | Path | None = None,
    ) -> None:
        self.index, self.views, self.config = index, tuple(views), (config or LoaderConfig()).settled()
        self.device = torch.device(device)
        products = index.select(split)
        self.sampler = self._new_sampler(products, global_batch, seed, batches)
        self._labels = self.sampler.labels if isinstance(self.sampler, GroupSampler) else None
        index.files.check_room(self.sampler.largest_window_bytes(), self.config.window_shards)
        self._shares = (rank, world_size, micro_steps)
        self._batch_size = len(self._positions(_Place(0, 0, 0)))
        self.planner = Planner(index, views, seed, recipes=self.config.recipes)
        limits = SkipLimits(
            self.config.max_skipped_in_a_row, self.config.max_skipped_share, self.config.skipped_judged_after
        )
        self.reader = Reader(index, limits=limits, skipped_path=skipped_path)
        self._next = _Place(0, 0, 0)
        self._thread: Background | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self.sampler.steps_per_epoch

    @property
    def skipped(self) -> dict[str, int]:
        """Times that a photograph was wanted for the batches handed out and could not be used, by reason."""
        return dict(self.reader.counts)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._thread is None:
            start_place = self._next
            _, depth, _ = self.config.settings()
            self._thread = Background(lambda put: self._work(start_place, put), depth, self.config.stuck_after_s)
        start = time.perf_counter()
        place, package, crops = self._thread.get()
        self.reader.settle(package.tallies)
        if self.device.type == "cuda":
            for crop in crops.values():  # made on the thread's stream, used on this one
                crop.record_stream(torch.cuda.current_stream(self.device))
        wait_ms = (time.perf_counter() - start) * 1e3
        self._next = self._after(place)
        products = self.index.product[package.images[:, 0]]
        return Batch(
            crops=crops,
            epoch=place.epoch,
            step=place.step,
            positions=package.positions,
            images=package.images,
            products=products,
            product_types=self.index.product_type[products].astype(np.int64),
            labels={} if self._labels is None else self._labels.tensors(products, self.device),
            wait_ms=wait_ms,
        )

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._next.epoch, "step": self._next.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the start of the given step; what was prefetched is thrown away."""
        if not 0 <= state["step"] < self.steps_per_epoch or state["epoch"] < 0:
            raise BadUsage(
                f"a loader state of epoch {state['epoch']}, step {state['step']}",
                allowed=f"steps 0 to {self.steps_per_epoch - 1} of an epoch of this data set",
                change="resume with the data set and the global batch that the run was started with",
            )
        self._stop()
        self._next = _Place(int(state["epoch"]), int(state["step"]), 0)

    def close(self) -> None:
        """Stop the thread and close the shards; the loader can be iterated again afterwards, from where it was."""
        self._stop()
        self.reader.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_sampler(
        self, products: np.ndarray, global_batch: int, seed: int, batches: GroupBatches | None
    ) -> Sampler | GroupSampler:
        config = self.config
        if batches is None:
            options: dict[str, Any] = {"window_shards": config.window_shards, "type_weights": config.type_weights}
            return Sampler(self.index, products, global_batch, seed, **options)
        if config.type_weights:
            raise BadUsage(
                "weights of product types with batches of variant groups",
                allowed="weights with methods that take photographs one by one",
                change="leave --loader.type-weights out",
            )
        return GroupSampler(self.index, products, global_batch, seed, products_per_group=batches.products)

    def _stop(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _positions(self, place: _Place) -> np.ndarray:
        rank, world_size, micro_steps = self._shares
        return self.sampler.rank_positions(place.step, rank, world_size, place.micro_step, micro_steps)

    def _after(self, place: _Place) -> _Place:
        if place.micro_step + 1 < self._shares[2]:
            return _Place(place.epoch, place.step, place.micro_step + 1)
        if place.step + 1 < self.steps_per_epoch:
            return _Place(place.epoch, place.step + 1, 0)
        return _Place(place.epoch + 1, 0, 0)

    def _work(self, place: _Place, put: Callable[[Any], bool]) -> None:
        """The background thread: submit batch after batch, and hand out the oldest once ``prefetch`` are under way."""
        shows_second = any(1 in group.photographs for group in self.views)
        pairs = PairSource(self.sampler, self.planner, self.reader, second=shows_second)
        c = self.config
        threads, depth, hw_decoder_load = c.settings()
        options = GraphOptions(self._batch_size, threads, depth, hw_decoder_load, c.dtype, c.mean, c.std)
        cropper = Cropper(pairs, self.planner, self.reader, options, self.device)
        flying: deque[_Place] = deque()
        going_on = True
        while going_on:
            positions = self._positions(place)
            self.reader.shards.want(*self.sampler.upcoming(place.epoch, positions))
            cropper.submit(place.epoch, positions)
            flying.append(place)
            place = self._after(place)
            if cropper.full:
                package, crops = cropper.collect()
                going_on = put((flying.popleft(), package, crops))
