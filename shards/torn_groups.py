"""Variant groups that a source's own splits tear apart: what is learned of one colour would help with the others."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from shards.errors import BadData
from shards.places import Place
from shards.sources.product import Product
from shards.tables import batches

NAMED = 3
"""Groups that the error names."""


MEND_SOURCE = "mend the source's splits, or give --split, as in --split train=0.9,test=0.1, to have others made"


def check_groups(products: Callable[[], Iterable[Product]], of: str = "the source", change: str = MEND_SOURCE) -> None:
    """Raise BadData where products of one variant group are in several splits, naming the first groups.

    products: gives them from the start each time. of, change: what they are of, and what can be done, for the error.
    Of each with a group 12 bytes are kept, twice more while sorting.
    """
    hashes, codes = array("Q"), array("I")
    splits: dict[str, int] = {}
    for product in products():
        if product.variant_group:
            hashes.append(_hash(product.variant_group))
            codes.append(splits.setdefault(product.split, len(splits)))
    if len(splits) < 2:
        return
    groups, within = np.frombuffer(hashes, np.uint64), np.frombuffer(codes, np.uint32)
    order = np.lexsort((within, groups))
    groups, within = groups[order], within[order]
    torn = set(groups[1:][(groups[1:] == groups[:-1]) & (within[1:] != within[:-1])].tolist())
    if torn:
        raise BadData(
            f"{len(torn):,} variant group{'s' * (len(torn) != 1)} in more than one split of {of}: "
            + "; ".join(_first_named(products(), torn)),
            allowed="all products of a variant group in one split",
            change=change,
        )


def grouped_products(folder: Place) -> Iterator[Product]:
    """The products of a data set without photographs, each with its id, variant group and split."""
    names = ["product_id", "variant_group", "split"]
    for batch in batches(folder, "products.parquet", names):
        for product_id, group, split in zip(*(batch[name].to_pylist() for name in names), strict=True):
            yield Product(product_id, (), variant_group=group, split=split)


def _first_named(products: Iterable[Product], torn: set[int]) -> list[str]:
    """ "'group': 'product' in train, 'product' in test" of the first groups whose second split comes up."""
    seen: dict[str, Product] = {}
    named: dict[str, str] = {}
    for product in products:
        group = product.variant_group
        if not group or group in named or _hash(group) not in torn:
            continue
        first = seen.setdefault(group, product)
        if first.split != product.split:
            named[group] = (
                f"'{group}': '{first.product_id}' in {first.split}, '{product.product_id}' in {product.split}"
            )
            if len(named) == NAMED:
                break
    return [*named.values()]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")
