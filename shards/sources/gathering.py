"""From mentions to products: what rows or folders say about a product, gathered on disk, becomes one Product."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeAlias

from shards.errors import BadData
from shards.places import Place
from shards.rejects import Reject
from shards.sources.product import Catalogue, Photograph, Product, held_back
from shards.sources.rows import BadRow, shown
from shards.sources.spool import Spool

LABELS = ("product_type", "color", "pattern", "variant_group", "split")
NAME = 4096
"""Characters of a reject's texts: as long as a path can be."""
_encoder = json.JSONEncoder(allow_nan=False, default=str)
Locate: TypeAlias = "Callable[[str], Photograph | None]"
"""A photograph from what the catalogue calls it, or None where the catalogue's own index does not list it."""


class Mention(NamedTuple):
    """What one row, or one folder, says about a product."""

    product_id: str
    where: str
    """"row 3" or "folder 'x'": what a person looks for."""
    photographs: Sequence[str]
    labels: dict[str, str]
    attributes: dict[str, Any]


class Gathering:
    """Takes mentions and rejects in the order of the source; is then the entries of its Catalogue.

    on_duplicate: None where a product's mentions may be many by definition: labels and attributes are the first that
        are not empty, and a photograph that is named again is a bad row. Else a second mention is a duplicate:
        "error" raises BadData with both places, "first" keeps the first and rejects the other, "merge" unites them.
    repeats: a photograph that is named again for its product is no fault and counts once; so it is in a merge too.
        Under another name it is a bad row.
    combine: one mention from all of a product; by default the first non-empty value of each label and attribute.

    Going through it again gives the same. ``notes`` counts what was decided on the way: merged_products,
    contradicting_labels; and before, ``noted``.
    """

    def __init__(
        self,
        locate: Locate,
        *,
        on_duplicate: str | None = None,
        repeats: bool = False,
        combine: Callable[[list[Mention]], Mention] | None = None,
    ) -> None:
        self.notes: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        """By whoever gathers; goes into the notes as it is."""
        self._locate, self._on_duplicate, self._combine = locate, on_duplicate, combine
        self._unites = repeats or on_duplicate == "merge"
        self._spool = Spool()
        self._labels: set[str] = set()
        """That any mention had."""
        self._images = 0

    def add(self, mention: Mention) -> None:
        """Take a mention; raises BadRow where its id or values can not be written, and then nothing of it is taken."""
        if not mention.product_id:
            raise BadRow("product_id is empty")
        if self._unites:
            mention = mention._replace(photographs=list(dict.fromkeys(mention.photographs)))
        self._spool.add(mention.product_id, _dumped(mention))
        self._images += len(mention.photographs)
        self._labels.update(mention.labels)

    def reject(self, product_id: Any, image_path: Any, reason: str, detail: str) -> None:
        """Take a photograph, or a row that should have named one, that can not be used."""
        told = Reject(shown(product_id, NAME), shown(image_path, NAME), reason, shown(detail, NAME))
        self._spool.add(None, json.dumps(asdict(told)))
        self._images += 1

    def catalogue(self, source: Place, options: dict[str, Any] | None = None) -> Catalogue:
        """The finished catalogue; raises BadData where nothing was taken, or for a duplicate with "error"."""
        if not self._spool.records:
            raise BadData(f"'{source}' has no rows", allowed="a row a photograph or product", change="check the file")
        repeated = self._spool.repeated()
        if repeated and self._on_duplicate == "error":
            first, second = (Mention(*record) for record in repeated)
            raise BadData(
                f"the product id '{shown(first.product_id)}' is there twice: {first.where} and {second.where}",
                allowed="each product once",
                change="remove one of the two, or build with --on-duplicate first or merge",
            )
        if repeated and (self._unites or self._on_duplicate == "first"):
            self._images = sum(self._counted(records) for records in self._spool.groups())
        given = {"split", "variant_group"} <= self._labels
        return Catalogue(self, self._images, options or {}, self.notes, gives_splits=given)

    def __iter__(self) -> Iterator[Product | Reject]:
        self.notes.clear()
        self.notes.update(self.noted)
        for records in self._spool.groups():
            if isinstance(records[0], dict):
                yield Reject(**records[0])
            else:
                yield from self._product([Mention(*record) for record in records])

    def _counted(self, records: list[Any]) -> int:
        """Photographs of one group that will be seen."""
        if isinstance(records[0], dict):
            return 1
        named = [name for record in records for name in Mention(*record).photographs]
        return len(Mention(*records[0]).photographs) if self._on_duplicate == "first" else len(set(named))

    def _product(self, mentions: list[Mention]) -> Iterator[Product | Reject]:
        later: list[Mention] = []
        if self._on_duplicate == "first":
            mentions, later = mentions[:1], mentions[1:]
        elif self._on_duplicate == "merge":
            self.notes["merged_products"] += len(mentions) > 1
        combined = self._combine(mentions) if self._combine else self._first_wins(mentions)
        photographs: dict[Photograph, str] = {}
        for mention, name in _once(mentions) if self._unites else _all(mentions):
            photograph = self._locate(name)
            if photograph is None:
                yield Reject(mention.product_id, name, "unknown_image", f"{mention.where} names an image not listed")
            elif photograph not in photographs:
                photographs[photograph] = mention.where
            else:
                why = f"{mention.where}: the same photograph of the same product as in {photographs[photograph]}"
                yield Reject(mention.product_id, shown(name), "bad_row", why)
        labels = {"split": "train", **combined.labels}
        attributes = {name: combined.attributes[name] for name in sorted(combined.attributes)}
        yield Product(combined.product_id, tuple(photographs), attributes=attributes, **labels)
        for mention in later:
            yield Reject(mention.product_id, "", "duplicate_product", f"{mention.where}; kept: {mentions[0].where}")

    def _first_wins(self, mentions: list[Mention]) -> Mention:
        if len(mentions) == 1:
            return mentions[0]
        labels: dict[str, str] = {}
        attributes: dict[str, Any] = {}
        for mention in mentions:
            self.notes["contradicting_labels"] += sum(
                labels.get(name, value) != value for name, value in mention.labels.items()
            )
            labels = mention.labels | labels
            attributes = mention.attributes | attributes
        if "split" in labels:
            # Nothing that is tested on is trained on, whichever row comes first.
            labels["split"] = max((mention.labels.get("split", "") for mention in mentions), key=held_back) or "train"
        return mentions[0]._replace(labels=labels, attributes=attributes)


def _all(mentions: Iterable[Mention]) -> Iterator[tuple[Mention, str]]:
    return ((mention, name) for mention in mentions for name in mention.photographs)


def _once(mentions: Iterable[Mention]) -> Iterator[tuple[Mention, str]]:
    named: dict[str, Mention] = {}
    for mention, name in _all(mentions):
        named.setdefault(name, mention)
    return ((mention, name) for name, mention in named.items())


def _dumped(mention: Mention) -> str:
    """The mention as JSON; raises BadRow for what a product's JSON in UTF-8 can not hold, naming the column."""
    try:
        text = _encoder.encode(mention)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRow(f"{_faulty(mention.attributes)} can not be written as JSON: {error}") from error
    # Escapes of surrogates: most are halves of a pair, as of an emoji, and fine.
    if "\\ud" in text:
        for name, value in {"product_id": mention.product_id, **mention.labels, **mention.attributes}.items():
            try:
                json.dumps({name: value}, ensure_ascii=False, default=str).encode("utf-8")
            except UnicodeEncodeError as error:
                raise BadRow(f"{shown(name)} is no Unicode text: {error.reason}") from error
        for photograph in mention.photographs:
            try:
                # Of a local file any bytes may be the name; Python holds those that are no UTF-8 as surrogates.
                photograph.encode("utf-8") if "://" in photograph else os.fsencode(photograph)
            except UnicodeEncodeError as error:
                raise BadRow(f"the photograph's name is no Unicode text: {error.reason}") from error
    return text


def _faulty(attributes: dict[str, Any]) -> str:
    for name, value in attributes.items():
        try:
            _encoder.encode(value)
        except (ValueError, TypeError, RecursionError):
            return shown(name)
    return "the row"
