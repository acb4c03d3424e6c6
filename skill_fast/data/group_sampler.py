"""Batches of P variant groups x K products: the order of an epoch for methods that learn from colour variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from skill_fast.data.draws import philox, uniforms
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.sampler import share_of_step
from skill_fast.errors import BadUsage


@dataclass(frozen=True)
class GroupLabels:
    """What the catalogue says of each product, as codes, [products] int64."""

    group: np.ndarray
    """Variant group; a product without one is a group of its own."""
    color: np.ndarray
    """Colour; a product without one has a colour of its own."""
    type: np.ndarray

    def tensors(self, products: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """[batch] int64 tensors of the given rows of products.parquet."""
        return {
            name: torch.from_numpy(getattr(self, name)[products]).to(device, non_blocking=True)
            for name in ("group", "color", "type")
        }


class GroupSampler:
    """Order of an epoch as a pure function of (seed, epoch), K positions in a row for each visit of a group.

    Used are the groups with products in two colours or more; the others have no positive. An epoch::

        a group of n products is visited ceil(n / K) times; its products stand in a fresh order, the last visit filled
        up from the start; each position shows one photograph of its product, all as likely
        visits of one type stand together, P = G / K at a time (the last of a type filled up with its own first ones),
        so that a batch holds other groups of the same type; the batches are shuffled

    ``photographs`` is the epoch's length in positions, a multiple of G; nothing is padded. Memory: the tables' columns
    of the used products. Raises BadUsage where G is no multiple of K, P is under 2, or no group has two colours.
    Ranks must hold whole visits: a rank's micro-batch is a multiple of K.
    """

    def __init__(
        self, index: CatalogueIndex, products: np.ndarray, global_batch: int, seed: int, *, products_per_group: int
    ) -> None:
        k = products_per_group
        if k < 2 or global_batch % k or global_batch < 2 * k:
            raise BadUsage(
                f"a global batch of {global_batch} in groups of {k} products",
                allowed="2 products or more of each group, and a batch of two groups or more, all whole",
                change="the batch of the ds_config, or --triplet.products",
            )
        self.global_batch, self.seed, self.products_per_group = global_batch, seed, k
        self._index = index
        self.labels = _labels(index)
        self._groups = self._usable(np.sort(products))
        self._visits = np.array([-(-len(members) // k) for members in self._groups])
        self._types = np.array([self.labels.type[members[0]] for members in self._groups])
        per_batch = global_batch // k
        per_type = [int(self._visits[self._types == t].sum()) for t in np.unique(self._types)]
        self.steps_per_epoch = sum(-(-visits // per_batch) for visits in per_type)
        self._epoch_products = lru_cache(maxsize=2)(self._order)

    padding = 0

    @property
    def photographs(self) -> int:
        """Positions in an epoch."""
        return self.steps_per_epoch * self.global_batch

    def rank_positions(
        self, step: int, rank: int = 0, world_size: int = 1, micro_step: int = 0, micro_steps: int = 1
    ) -> np.ndarray:
        """Positions of one rank's batch, [G / (world_size x micro_steps)] int64, in whole visits of groups."""
        positions = share_of_step(self.global_batch, step, rank, world_size, micro_step, micro_steps)
        if len(positions) % self.products_per_group:
            raise BadUsage(
                f"a micro-batch of {len(positions)} in groups of {self.products_per_group} products",
                allowed=f"a multiple of {self.products_per_group}",
                change="the batch of the ds_config, or --triplet.products",
            )
        return positions

    def images_at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Rows of images.parquet shown at the given positions, [n] int64; positions past the end wrap around."""
        positions = np.asarray(positions, dtype=np.int64) % self.photographs
        products = self._epoch_products(epoch)[positions]
        u = uniforms(self.seed, epoch, "group photograph", positions, 1)[:, 0]
        first, count = self._index.first_image[products], self._index.images_per_product[products]
        return first + np.floor(u * count).astype(np.int64)

    def upcoming(self, epoch: int, positions: np.ndarray) -> tuple[list[int], list[int]]:
        """Shards of the given positions, and of as many positions after them."""
        after = positions + len(positions)
        later = (epoch, after) if after[-1] < self.photographs else (epoch + 1, after % self.photographs)
        return self._shards(epoch, positions), self._shards(*later)

    def largest_window_bytes(self) -> int:
        """Groups lie anywhere: all shards that hold products of them."""
        first = self._index.first_image[np.concatenate(self._groups)]
        return int(self._index.shard_bytes[np.unique(self._index.shard[first])].sum())

    def _shards(self, epoch: int, positions: np.ndarray) -> list[int]:
        found = np.asarray(self._index.shard[self.images_at(epoch, positions)])
        return found[np.sort(np.unique(found, return_index=True)[1])].tolist()

    def _usable(self, products: np.ndarray) -> list[np.ndarray]:
        groups = self.labels.group[products]
        order = np.argsort(groups, kind="stable")
        cuts = np.flatnonzero(np.diff(groups[order])) + 1
        found = [g for g in np.split(products[order], cuts) if len(np.unique(self.labels.color[g])) > 1]
        if not found:
            raise BadUsage(
                f"no variant group of '{self._index.folder}' has products in two colours",
                allowed="a catalogue with variant_group and color, or without color one product a colour",
                change="--method pbcnet, which needs no labels, or build shards with variant groups",
            )
        return found

    def _order(self, epoch: int) -> np.ndarray:
        """[photographs] int64: the product at each position of an epoch."""
        k, per_batch = self.products_per_group, self.global_batch // self.products_per_group
        batches: list[np.ndarray] = []
        for code in np.unique(self._types):
            visits = [self._visit_rows(epoch, int(g)) for g in np.flatnonzero(self._types == code)]
            rows = np.concatenate(visits)
            rows = rows[_shuffled(self.seed, epoch, f"visits/{code}", len(rows))]
            whole = -(-len(rows) // per_batch) * per_batch
            batches += list(np.resize(rows, (whole, k)).reshape(-1, per_batch * k))
        return np.concatenate([batches[b] for b in _shuffled(self.seed, epoch, "batches", len(batches))])

    def _visit_rows(self, epoch: int, group: int) -> np.ndarray:
        """[visits, K] int64: a group's products, each at least once."""
        members = self._groups[group]
        members = members[_shuffled(self.seed, epoch, f"group/{self.labels.group[members[0]]}", len(members))]
        return np.resize(members, (self._visits[group], self.products_per_group))


def _shuffled(seed: int, epoch: int, stream: str, length: int) -> np.ndarray:
    return np.argsort(philox(seed, epoch, stream).random_raw(length), kind="stable")


def _labels(index: CatalogueIndex) -> GroupLabels:
    types = np.asarray(index.product_type[np.arange(index.products)], dtype=np.int64)
    return GroupLabels(_codes(index.column("variant_group")), _codes(index.column("color")), types)


def _codes(names: np.ndarray) -> np.ndarray:
    """A code for each name; an unknown one ("") is like no other."""
    _, codes = np.unique(names, return_inverse=True)
    unknown = names == ""
    return np.where(unknown, len(names) + np.cumsum(unknown), codes).astype(np.int64)
