"""The order in which an epoch visits the photographs, and which rank gets which of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from skill_fast.data.draws import philox
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.type_weights import TypeWeights
from skill_fast.errors import BadUsage


class Sampler:
    """Order of an epoch as a pure function of (seed, epoch), worked out one window of shards at a time.

    An epoch shows every photograph of the chosen products once as x', or as often as its type's weight says
    (``type_weights.py``). Shards are shuffled, then the photographs within each window of ``window_shards`` of them:
    reads stay local and memory bounded.

        window k of epoch e = shuffled photographs of shards order_e[k window_shards : (k + 1) window_shards]
        global batch s      = positions [s G, (s + 1) G); the same for every world size
        rank r, micro step m: the m-th part of the r-th part of it

    The last global batch is filled by going on at the epoch's start: positions run up to ``steps_per_epoch`` G, and
    those from ``photographs`` on are the ``padding``. Raises BadUsage where G can not be shared out.
    """

    def __init__(
        self,
        index: CatalogueIndex,
        products: np.ndarray,
        global_batch: int,
        seed: int,
        *,
        window_shards: int = 16,
        type_weights: Mapping[str, float] | None = None,
    ) -> None:
        if global_batch < 1 or window_shards < 1:
            raise BadUsage(f"global_batch {global_batch}, window_shards {window_shards}", allowed="1 or more of each")
        self.global_batch, self.seed, self.window_shards = global_batch, seed, window_shards
        self._index = index
        products = np.sort(products)
        if len(products) == 0:
            raise BadUsage(f"no photograph of '{index.folder}' is selected", allowed="at least one")
        self._products = products.astype(np.min_scalar_type(index.products))
        self._weights: TypeWeights | None = None
        self._lay_out_shards(type_weights or {})
        self._window_images = lru_cache(maxsize=4)(self._shuffle_window)
        self._epoch_layout = lru_cache(maxsize=2)(self._shuffle_shards)

    @property
    def photographs(self) -> int:
        """Photographs in an epoch, with the repetitions of weights."""
        return int(self._shard_ends[-1])

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
        return share_of_step(self.global_batch, step, rank, world_size, micro_step, micro_steps)

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

    def upcoming(self, epoch: int, positions: np.ndarray) -> tuple[list[int], list[int]]:
        """Shards of the windows that ascending positions lie in, and those of the window after, in the epoch's order.

        After an epoch's last window comes the first one of the next epoch.
        """
        _, window_ends = self._epoch_layout(epoch)
        windows = np.unique(np.searchsorted(window_ends, positions % self.photographs, side="right"))
        now = [shard for window in windows.tolist() for shard in self._shards_of(epoch, window)]
        last = int(np.searchsorted(window_ends, positions[-1], side="right"))
        if last + 1 < len(window_ends):
            return now, self._shards_of(epoch, last + 1)
        return now, self._shards_of(epoch + 1, 0)

    def largest_window_bytes(self) -> int:
        """The most that the shards of any window of any epoch can have together."""
        return int(np.sort(self._index.shard_bytes[self._shards])[-self.window_shards :].sum())

    def _lay_out_shards(self, type_weights: Mapping[str, float]) -> None:
        """Which shards hold selected products, where those lie in ``_products``, and how many photographs before."""
        index = self._index
        # Needles of the type that is searched: else numpy makes a wider copy of it first.
        needles = index.first_of_shard[:].astype(index.first_image.values.dtype)
        first_products = np.searchsorted(index.first_image.values, needles)
        starts = np.searchsorted(self._products, first_products.astype(self._products.dtype))
        ends = np.append(starts[1:], len(self._products))
        self._shards = np.flatnonzero(ends > starts)
        self._product_starts, self._product_ends = starts[self._shards], ends[self._shards]
        counts = np.add.reduceat(index.images_per_product.values[self._products], self._product_starts, dtype=np.int64)
        if type_weights:
            places = (self._product_starts, self._product_ends)
            self._weights = TypeWeights(index, self._products, *places, self.seed, type_weights)
            counts = self._weights.per_shard
        self._shard_ends = np.cumsum(counts)
        if self.photographs == 0:
            raise BadUsage("the weights of all product types in use are 0", allowed="at least one above 0")

    def _shards_of(self, epoch: int, window: int) -> list[int]:
        order, _ = self._epoch_layout(epoch)
        return self._shards[order[window * self.window_shards : (window + 1) * self.window_shards]].tolist()

    def _shuffle_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards in the epoch's order, and the position at which each window of them ends."""
        # Sorting raw words rather than Generator.permutation: numpy keeps the words stable between versions.
        order = np.argsort(philox(self.seed, epoch, "shards").random_raw(len(self._shards)), kind="stable")
        counts = np.diff(self._shard_ends, prepend=0)[order]
        ends = np.cumsum(np.add.reduceat(counts, np.arange(0, len(self._shards), self.window_shards)))
        return order, ends

    def _shuffle_window(self, epoch: int, window: int) -> np.ndarray:
        order, _ = self._epoch_layout(epoch)
        shards = order[window * self.window_shards : (window + 1) * self.window_shards]
        parts = [self._products[self._product_starts[s] : self._product_ends[s]] for s in shards]
        if self._weights is None:
            images = self._index.images_of(np.concatenate(parts))
        else:
            each = zip(shards.tolist(), map(self._index.images_of, parts))
            images = np.concatenate([self._weights.repeated(epoch, shard, shown) for shard, shown in each])
        keys = philox(self.seed, epoch, f"window/{window}").random_raw(len(images))
        return images[np.argsort(keys, kind="stable")]


def share_of_step(
    global_batch: int, step: int, rank: int, world_size: int, micro_step: int, micro_steps: int
) -> np.ndarray:
    """Positions of one rank's micro step within a global batch; raises BadUsage where it can not be shared out."""
    parts = world_size * micro_steps
    if not (0 <= rank < world_size and 0 <= micro_step < micro_steps):
        raise BadUsage(
            f"rank {rank}, micro step {micro_step}",
            allowed=f"ranks 0 to {world_size - 1}, micro steps 0 to {micro_steps - 1}",
        )
    if global_batch % parts:
        raise BadUsage(
            f"a global batch of {global_batch} for {world_size} ranks x {micro_steps} micro steps",
            allowed=f"a multiple of {parts}",
            change="change the global batch, the number of ranks or the accumulation steps",
        )
    size = global_batch // parts
    start = step * global_batch + (rank * micro_steps + micro_step) * size
    return np.arange(start, start + size, dtype=np.int64)
