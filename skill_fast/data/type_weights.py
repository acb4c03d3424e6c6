"""How often an epoch shows the photographs of a product type: sampling weights that stay local to a shard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skill_fast.data.draws import philox
from skill_fast.data.index import CatalogueIndex
from skill_fast.errors import BadUsage

MOST = 1000.0
"""The largest weight: an epoch that shows a photograph more often is a slip of the keyboard."""


class TypeWeights:
    """Shows each photograph of a type ``weight`` times an epoch on average; types without a weight once.

    Of the n photographs of a type in a shard, m are shown, with m fixed by counting through the shards::

        m(shard) = round(w N_after) - round(w N_before)          N: photographs of the type in the shards up to there
        each of them m // n times, and m % n of them, drawn anew each epoch, once more

    So an epoch's length and every window follow from (seed, epoch, shard) alone, a weight of 1 changes nothing, and
    what is drawn of a type depends on its own weight, not on which others have one.
    starts, ends: [shards] the selected products of each shard as places in ``products``.
    Raises BadUsage for a type that the data set lacks, and for weights that are negative, not finite or over ``MOST``.
    """

    def __init__(
        self, index: CatalogueIndex, products: np.ndarray, starts: np.ndarray, ends: np.ndarray, seed: int,
        weights: Mapping[str, float],
    ) -> None:  # fmt: skip
        self._index, self._seed = index, seed
        self._names = ["", *sorted(weights)]
        self._group_of_type = self._groups(weights)
        self._weights = np.array([1.0, *(weights[name] for name in self._names[1:])])
        group = self._group_of_type[index.product_type[products]]
        photographs = np.asarray(index.images_per_product[products])
        before = np.zeros((len(starts), len(self._weights)), dtype=np.int64)
        after = np.zeros_like(before)
        for g in range(len(self._weights)):
            passed = np.concatenate([[0], np.cumsum(np.where(group == g, photographs, 0))])
            before[:, g], after[:, g] = passed[starts], passed[ends]
        self._present = after - before
        self._shown = np.floor(self._weights * after + 0.5) - np.floor(self._weights * before + 0.5)
        self._shown = self._shown.astype(np.int64)

    @property
    def per_shard(self) -> np.ndarray:
        """[shards] int64: photographs that an epoch shows of each, with repetitions."""
        return self._shown.sum(axis=1)

    def repeated(self, epoch: int, shard: int, images: np.ndarray) -> np.ndarray:
        """The photographs of a shard, [n] rows of images.parquet in order, each as often as this epoch shows it."""
        group = self._group_of_type[self._index.product_type[self._index.product[images]]]
        times = np.zeros(len(images), dtype=np.int64)
        for g in np.unique(group):
            mine = np.flatnonzero(group == g)
            whole, more = divmod(int(self._shown[shard, g]), len(mine))
            times[mine] = whole
            if more:
                keys = philox(self._seed, epoch, f"weight/{shard}/{self._names[g]}").random_raw(len(mine))
                times[mine[np.argsort(keys, kind="stable")[:more]]] += 1
        return np.repeat(images, times)

    def _groups(self, weights: Mapping[str, float]) -> np.ndarray:
        """[types] int64: 0 for types without a weight, else the place of the type in ``_names``."""
        types = self._index.product_types
        for name, weight in weights.items():
            if name not in types:
                raise BadUsage(
                    f"a weight for the product type '{name}', which '{self._index.folder}' does not have",
                    allowed=", ".join(sorted(types)[:20]) or "no types: the data set names none",
                    change="--loader.type-weights TYPE WEIGHT ...",
                )
            if not 0 <= weight <= MOST:
                raise BadUsage(
                    f"a weight of {weight} for the product type '{name}'",
                    allowed=f"0 (left out) to {MOST:g}, 1 for once an epoch",
                    change="--loader.type-weights TYPE WEIGHT ...",
                )
        places = {name: place for place, name in enumerate(self._names) if name in weights}
        return np.array([places.get(name, 0) for name in types], dtype=np.int64)
