"""Products that several data sets have: which are left out, which gain photographs, and where those lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from shards.errors import BadData
from shards.places import Place
from shards.repeats import repeated
from shards.sources.product import Product, held_back, name_of
from shards.tables import batches, gather
from shards.tar_reading import LABELS
from shards.torn_groups import grouped_products

NAMED = 5
"""Products that an error names."""


@dataclass(frozen=True)
class Later:
    """A product that an earlier source has too."""

    source: Place
    number: int
    """Of its source."""
    record: dict[str, Any]
    """As in KEY.json."""
    key: str
    images: list[tuple[str, int, int, int]]
    """Shard, offset, size and crc32 of each photograph."""


class Move(NamedTuple):
    """Where the photographs of a ``Later`` product go: to a product of an earlier row, behind ``views`` others."""

    row: int
    views: int


@dataclass
class Repeats:
    """Rows are those of the products of all sources, counted through."""

    left_out: dict[int, Later] = field(default_factory=dict)
    gains: dict[int, list[Later]] = field(default_factory=dict)
    """Row of the first -> what later sources add to it; empty where nothing is added."""
    first_source: dict[int, Place] = field(default_factory=dict)
    """Row of a product that is left out -> the source that came first."""
    moves: dict[tuple[int, str], Move | None] = field(default_factory=dict)
    """(number of the source, key) of what is left out -> where its photographs go, None where they do not."""
    merges: bool = False

    def __post_init__(self) -> None:
        self._touched = np.array(sorted({*self.left_out, *self.gains}), np.int64)

    def touches(self, first: int, end: int) -> bool:
        """Whether a product of the rows ``first`` ... ``end - 1`` is left out or gains photographs."""
        low, high = np.searchsorted(self._touched, [first, end])
        return bool(low < high)

    def rejected(self, number: int) -> Iterator[tuple[str, str, str, str]]:
        """Rows of rejected.parquet for what is left out of one source and does not go on elsewhere."""
        for row, later in self.left_out.items():
            if later.number == number and not self.merges:
                earlier = name_of(self.first_source[row])
                why = f"'{name_of(later.source)}' came behind '{earlier}', which has it too"
                yield later.record["product_id"], "", "duplicate_product", why

    @property
    def products_left_out(self) -> int:
        return 0 if self.merges else len(self.left_out)

    @property
    def images_left_out(self) -> int:
        return 0 if self.merges else sum(len(later.images) for later in self.left_out.values())


def find_repeats(sources: Sequence[Place], datasets: Sequence[dict[str, Any]], on_duplicate: str) -> Repeats:
    """Look for product ids that two sources have.

    Raises BadData for them with "error", where one source has two, and where a later source holds back what an earlier
    one trains on.
    """

    def keys() -> Iterator[pa.Array]:
        return (batch["key"] for source in sources for batch in batches(source, "products.parquet", ["key"]))

    found = repeated(keys)
    edges = np.cumsum([0, *(dataset["counts"]["products"] for dataset in datasets)])
    numbers = {row: int(np.searchsorted(edges, row, "right")) - 1 for pair in found for row in pair}
    if bad := [pair for pair in found if on_duplicate == "error" or numbers[pair[0]] == numbers[pair[1]]]:
        raise _shared(bad, numbers, sources, edges)
    products: dict[int, dict[str, Any]] = {}
    for number, source in enumerate(sources):
        wanted = np.array(sorted(row for row, own in numbers.items() if own == number), np.int64) - edges[number]
        table = gather(source, "products.parquet", None, wanted)
        products |= dict(zip((wanted + edges[number]).tolist(), table.to_pylist(), strict=True))
    _check_splits(found, products, numbers, sources)
    later = _later(found, products, numbers, sources, datasets)
    return _arranged(found, later, products, numbers, sources, merges=on_duplicate == "merge")


def written_products(sources: Sequence[Place], repeats: Repeats) -> Iterator[Product]:
    """Those that will be written, as far as group and split go."""
    for row, product in enumerate(chain.from_iterable(map(grouped_products, sources))):
        if row in repeats.left_out:
            continue
        groups = [later.record["variant_group"] for later in repeats.gains.get(row, ())]
        group = next(filter(None, [product.variant_group, *groups]), "")
        yield replace(product, variant_group=group)


def _shared(
    pairs: list[tuple[int, int]], numbers: dict[int, int], sources: Sequence[Place], edges: np.ndarray
) -> BadData:
    named = []
    for row, first in pairs[:NAMED]:
        number = numbers[row]
        found = gather(sources[number], "products.parquet", ["product_id"], np.array([row - edges[number]]))
        named.append(f"'{found['product_id'][0]}' of '{sources[numbers[first]]}' is in '{sources[number]}' too")
    more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return BadData(
        f"{len(pairs)} product id{'s' * (len(pairs) > 1)} twice: {'; '.join(named)}{more}",
        allowed="a product in one source only",
        change="--on-duplicate first leaves the later one out, merge adds its photographs to the first",
    )


def _check_splits(
    found: list[tuple[int, int]],
    products: dict[int, dict[str, Any]],
    numbers: dict[int, int],
    sources: Sequence[Place],
) -> None:
    """The first's split is the one that stays: raise BadData where a later source holds it back more."""
    lost = [
        f"'{products[row]['product_id']}' is in {products[first]['split'] or 'no split'} in "
        f"'{sources[numbers[first]]}', in {products[row]['split']} in '{sources[numbers[row]]}'"
        for row, first in found
        if held_back(products[row]["split"]) > held_back(products[first]["split"])
    ]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        raise BadData(
            f"{len(lost)} product{'s' * (len(lost) > 1)} that a later source holds back from training: "
            f"{'; '.join(lost[:NAMED])}{more}",
            allowed="of the sources that have a product the first one's split stays: test where any of them tests it, "
            "for nothing tested is trained on",
            change="name the source that tests them first, or build all again with one and the same --split and the "
            "same variant groups",
        )


def _later(
    found: list[tuple[int, int]],
    products: dict[int, dict[str, Any]],
    numbers: dict[int, int],
    sources: Sequence[Place],
    datasets: Sequence[dict[str, Any]],
) -> dict[int, Later]:
    later: dict[int, Later] = {}
    for number, source in enumerate(sources):
        own = [row for row, _ in found if numbers[row] == number]
        rows = [np.arange(products[row]["images"]) + products[row]["first_image"] for row in own]
        wanted = np.concatenate([np.empty(0, np.int64), *rows])
        table = gather(source, "images.parquet", ["shard", "offset", "size", "crc32"], wanted)
        names = [shard["name"] for shard in datasets[number]["shards"]]
        cells = zip(*(column.to_pylist() for column in table.columns), strict=True)
        images = [(names[shard], *place) for shard, *place in cells]
        for row in own:
            product = products[row]
            record = {name: product[name] for name in LABELS} | {"attributes": json.loads(product["attributes"])}
            count = product["images"]
            later[row] = Later(source, number, record, product["key"], images[:count])
            images = images[count:]
    return later


def _arranged(
    found: list[tuple[int, int]],
    later: dict[int, Later],
    products: dict[int, dict[str, Any]],
    numbers: dict[int, int],
    sources: Sequence[Place],
    *,
    merges: bool,
) -> Repeats:
    gains: dict[int, list[Later]] = {}
    moves: dict[tuple[int, str], Move | None] = {}
    for row, first in found:
        added = gains.setdefault(first, []) if merges else []
        views = products[first]["images"] + sum(len(other.images) for other in added)
        moves[later[row].number, later[row].key] = Move(first, views) if merges else None
        added.append(later[row])
    first_source = {row: sources[numbers[first]] for row, first in found}
    return Repeats(later, gains, first_source, moves, merges)
