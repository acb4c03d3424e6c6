"""The order in which an epoch visits the photographs, and which rank gets which of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from skill_fast.data.draws import philox
from skill_fast.data.index import CatalogueIndex
from skill_fast.errors import BadUsage


class Sampler:
    """Order of an epoch as a pure function of (seed, epoch), worked out one window of shards at a time.

    An epoch shows every photograph of the chosen products once as x'. Shards are shuffled, then the photographs
    within each window of ``window_shards`` of them: reads stay local and memory bounded.

        window k of epoch e = shuffled photographs of shards order_e[k window_shards : (k + 1) window_shards]
        global batch s      = positions [s G, (s + 1) G); the same for every world size
        rank r, micro step m: the m-th part of the r-th part of it

    The last global batch is filled by going on at the epoch's start: positions run up to ``steps_per_epoch`` G, and
    those from ``photographs`` on are the ``padding``. Raises BadUsage where G can not be shared out.
    """

    def __init__(
        self, index: CatalogueIndex, products: np.ndarray, global_batch: int, seed: int, *, window_shards: int = 16
    ) -> None:
        if global_batch < 1 or window_shards < 1:
            raise BadUsage(f"global_batch {global_batch}, window_shards {window_shards}", allowed="1 or more of each")
        self.global_batch, self.seed, self.window_shards = global_batch, seed, window_shards
        self._images = index.images_of(np.sort(products))
        if len(self._images) == 0:
            raise BadUsage(f"no photograph of '{index.folder}' is selected", allowed="at least one")
        shards, counts = np.unique(index.shard[self._images], return_counts=True)
        self._shards = len(shards)
        self._shard_ends = np.cumsum(counts)
        self._window_images = lru_cache(maxsize=4)(self._shuffle_window)
        self._epoch_layout = lru_cache(maxsize=2)(self._shuffle_shards)

    @property
    def photographs(self) -> int:
        """Photographs in an epoch."""
        return len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.photographs // self.global_batch)

    @property
    def padding(self) -> int:
        """Places in the last global batch that show a photograph of the epoch's start again."""
        return self.steps_per_epoch * self.global_batch - self.photographs

    def rank_positions(
        self, step: int, rank: int = 0, world_size: int = 1, micro_step: int = 0, micro_steps: int = 1
    ) -> np.ndarray:
        """Positions of one rank's batch, [G / (world_size x micro_steps)] int64."""
        parts = world_size * micro_steps
        if not (0 <= rank < world_size and 0 <= micro_step < micro_steps):
            raise BadUsage(
                f"rank {rank}, micro step {micro_step}",
                allowed=f"ranks 0 to {world_size - 1}, micro steps 0 to {micro_steps - 1}",
            )
        if self.global_batch % parts:
            raise BadUsage(
                f"a global batch of {self.global_batch} for {world_size} ranks x {micro_steps} micro steps",
                allowed=f"a multiple of {parts}",
                change="change the global batch, the number of ranks or the accumulation steps",
            )
        size = self.global_batch // parts
        start = step * self.global_batch + (rank * micro_steps + micro_step) * size
        return np.arange(start, start + size, dtype=np.int64)

    def images_at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Rows of images.parquet shown as x' at the given positions, [n] int64; positions past the end wrap around."""
        positions = np.asarray(positions, dtype=np.int64) % self.photographs
        _, window_ends = self._epoch_layout(epoch)
        windows = np.searchsorted(window_ends, positions, side="right")
        rows = np.empty_like(positions)
        for window in np.unique(windows):
            chosen = windows == window
            start = window_ends[window - 1] if window else 0
            rows[chosen] = self._window_images(epoch, int(window))[positions[chosen] - start]
        return rows

    def _shuffle_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards in the epoch's order, and the position at which each window of them ends."""
        # Sorting raw words rather than Generator.permutation: numpy keeps the words stable between versions.
        order = np.argsort(philox(self.seed, epoch, "shards").random_raw(self._shards), kind="stable")
        counts = np.diff(self._shard_ends, prepend=0)[order]
        ends = np.cumsum(np.add.reduceat(counts, np.arange(0, self._shards, self.window_shards)))
        return order, ends

    def _shuffle_window(self, epoch: int, window: int) -> np.ndarray:
        order, _ = self._epoch_layout(epoch)
        shards = order[window * self.window_shards : (window + 1) * self.window_shards]
        parts = [self._images[self._shard_ends[s - 1] if s else 0 : self._shard_ends[s]] for s in shards]
        images = np.concatenate(parts)
        keys = philox(self.seed, epoch, f"window/{window}").random_raw(len(images))
        return images[np.argsort(keys, kind="stable")]
