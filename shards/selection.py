"""Which products of a catalogue are built, in which split they are, and which are cut to the item."""

from __future__ import annotations

import csv
import difflib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shards.errors import BadData, BadUsage
from shards.rejects import IMAGE_REASONS, Reject
from shards.sources.product import Catalogue, Product
from shards.torn_groups import check_groups

ALL = "all"
SHOWN_TYPES = 40
WORDS = 'one name or more, divided by commas; one with a comma or a quote in it in quotes: CHAIR,"Tops, long"'
_SPLIT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Selection:
    """What is taken of a catalogue; the default is all of it, as it is. Raises BadUsage for values out of range."""

    types: tuple[str, ...] = ()
    """Product types that are taken; none named is every one."""
    cap_per_type: int | None = None
    """At most the first so many products of each type that can be written, in the order of the catalogue."""
    split: tuple[tuple[str, float], ...] = ()
    """(name, share) in place of the source's own splits; the shares' sum is 1."""
    crop_to_item: tuple[str, ...] = ()
    """Product types whose photographs are cut to the item, or "all"."""

    def __post_init__(self) -> None:
        if self.cap_per_type is not None and self.cap_per_type < 1:
            raise BadUsage(f"cap_per_type is {self.cap_per_type}", allowed="1 or more")
        names = [name for name, _ in self.split]
        for name, share in self.split:
            if not _SPLIT_NAME.fullmatch(name) or names.count(name) > 1:
                raise BadUsage(f"the split name {name!r} is no good", allowed="letters, digits, - and _, no name twice")
            if not 0 < share <= 1:
                raise BadUsage(f"the share of split '{name}' is {share}", allowed="more than 0, at most 1")
        total = math.fsum(share for _, share in self.split)
        if self.split and abs(total - 1) > 1e-6:
            raise BadUsage(f"the shares of the splits add up to {total:g}", allowed="1, as in train=0.9,test=0.1")

    def crops(self, product_type: str) -> bool:
        """Whether photographs of this type are cut to the item."""
        return ALL in self.crop_to_item or product_type in self.crop_to_item

    def options(self) -> dict[str, Any]:
        """What differs from taking everything, for dataset.json."""
        said = {
            "types": list(self.types),
            "cap_per_type": self.cap_per_type,
            "split": dict(self.split),
            "crop_to_item": list(self.crop_to_item),
        }
        return {name: value for name, value in said.items() if value}


def parse_words(text: str) -> tuple[str, ...]:
    """Names as the command line writes them, one with a comma or a quote as CSV does; raises BadUsage where none is.

    >>> parse_words('CHAIR, "Tops, long"')
    ('CHAIR', 'Tops, long')
    """
    try:
        found = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise BadUsage(f"{text!r} can not be read: {error}", allowed=WORDS) from error
    words = tuple(word.strip() for word in found if word.strip())
    if not words:
        raise BadUsage(f"{text!r} names nothing", allowed=WORDS, change="leave the option out to name none")
    return words


def _as_word(name: str) -> str:
    """A name as ``parse_words`` reads it; "" where it reads none so."""
    word = name if not set(name) & set(',"\r\n') else '"' + name.replace('"', '""') + '"'
    try:
        return word if parse_words(word) == (name,) else ""
    except BadUsage:
        return ""


def parse_split(text: str) -> tuple[tuple[str, float], ...]:
    """Splits as the command line writes them; raises BadUsage.

    >>> parse_split("train=0.9,test=0.1")
    (('train', 0.9), ('test', 0.1))
    """
    found = []
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            found.append((name.strip(), float(share)))
        except ValueError as error:
            raise BadUsage(
                f"the split '{part}' is no NAME=SHARE", allowed="train=0.8,val=0.1,test=0.1 and the like"
            ) from error
    Selection(split=tuple(found))
    return tuple(found)


def split_of(product: Product, split: tuple[tuple[str, float], ...]) -> str:
    """The split of a product, from the hash of its variant group (of its id where it has none) and nothing else.

    u = first 8 bytes of sha256 / 2^64;  the first split at which the sum of shares exceeds u
    """
    held_together = product.variant_group or product.product_id
    number = int.from_bytes(hashlib.sha256(held_together.encode("utf-8")).digest()[:8], "big") / 2**64
    below = 0.0
    for name, share in split:
        below += share
        if number < below:
            return name
    return split[-1][0]


def select(catalogue: Catalogue, selection: Selection, *, types_are_there: bool = True) -> Catalogue:
    """The catalogue with products of other types turned into rejects, other_type, and with the splits asked for.

    The cap is for the packing, which knows what of a product is left; here it only tells how much there is to do. With
    ``types``, ``cap_per_type`` or types in ``crop_to_item`` the catalogue is gone through once, without opening a
    photograph: to count those that are left, and, with ``types_are_there``, to raise BadData where a named type has no
    product. So it is where the source has splits of its own that are kept: BadData where they tear a variant group
    apart.
    """
    selected = _Selected(catalogue, selection)
    if catalogue.gives_splits and not selection.split:
        check_groups(selected.products)
    cut = tuple(name for name in selection.crop_to_item if name != "all")
    if not selection.types and selection.cap_per_type is None and not cut:
        return replace(catalogue, entries=selected) if selection.split else catalogue
    cap = math.inf if selection.cap_per_type is None else selection.cap_per_type
    products: Counter[str] = Counter()
    images = 0
    for entry, reason in selected.judged():
        if isinstance(entry, Product):
            images += 0 if reason or products[entry.product_type] >= cap else len(entry.photographs)
            products[entry.product_type] += 1
        else:
            images += entry.reason in IMAGE_REASONS
    if types_are_there:
        _check_types((*selection.types, *cut), products)
    return replace(catalogue, entries=selected, images=images)


class _Selected:
    """The entries of a selection; can be gone through again."""

    def __init__(self, catalogue: Catalogue, selection: Selection) -> None:
        self._catalogue, self._selection = catalogue, selection

    def __iter__(self) -> Iterator[Product | Reject]:
        for entry, reason in self.judged():
            if isinstance(entry, Reject):
                yield entry
            elif reason:
                yield Reject(entry.product_id, "", reason, f"product type '{entry.product_type}'")
            elif self._selection.split:
                yield replace(entry, split=split_of(entry, self._selection.split))
            else:
                yield entry

    def products(self) -> Iterator[Product]:
        """Those that are taken."""
        return (entry for entry, reason in self.judged() if isinstance(entry, Product) and not reason)

    def judged(self) -> Iterator[tuple[Product | Reject, str]]:
        """Entries with the reason why they are left out, "" for those that are taken."""
        types = frozenset(self._selection.types)
        for entry in self._catalogue.entries:
            if isinstance(entry, Reject):
                yield entry, ""
            elif types and entry.product_type not in types:
                yield entry, "other_type"
            else:
                yield entry, ""


def _check_types(types: tuple[str, ...], products: Mapping[str, int]) -> None:
    """Raise BadData where a named type has no product, with the types that there are."""
    missing = [name for name in types if not products.get(name)]
    if not missing:
        return
    words = {name: word for name in products if (word := _as_word(name))}
    most = sorted(words, key=lambda name: (-products[name], name))
    listed = ", ".join(f"{words[name]} ({products[name]})" for name in most[:SHOWN_TYPES]) or "none"
    more = f" and {len(most) - SHOWN_TYPES} more" if len(most) > SHOWN_TYPES else ""
    if unnamed := sum(products.values()) - sum(products[name] for name in words):
        more += f"; {unnamed} with no type, or one of spaces at its ends, can not be named"
    near = [words[found[0]] for name in missing if (found := difflib.get_close_matches(name, list(words), 1))]
    raise BadData(
        f"no product has the type {', '.join(repr(name) for name in missing)}",
        allowed=f"the types there are, with their products: {listed}{more}",
        change=f"did you mean {', '.join(near)}?" if near else "name some of them",
    )
