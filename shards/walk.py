"""One tar, read from front to back and compared with what dataset.json and the tables say comes next.

As a program it is a child of a full verification: a pickled ``Walk`` on stdin, a JSON line a shard on stdout.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from typing import Any

from PIL import Image

from shards.errors import Failure
from shards.jpeg import read_header
from shards.keys import key_of
from shards.places import Place, reaching, size_of
from shards.tables import rows
from shards.tar_reading import LABELS, TarStream
from shards.writer import BLOCK, Member, dali_index, header, member_names, padded

MOST_FINDINGS = 100
"""Of one shard; a tar that is out of step with the tables would give some for every product."""


@dataclass(frozen=True)
class Finding:
    file: str
    what: str
    expected: object
    found: object
    product: str = ""

    def __str__(self) -> str:
        of = f", product '{self.product}'" if self.product else ""
        return f"{self.file}{of}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Walk:
    """A run of shards to be read; without ``tables`` only their sha256 is compared."""

    folder: Place
    shards: list[dict[str, Any]]
    """All lines of dataset.json."""
    first: int
    last: int
    tables: bool = True


def walked(walk: Walk) -> Iterator[tuple[int, list[Finding]]]:
    """(number, findings) of each shard ``first`` ... ``last - 1``."""
    starts = {
        kind: list(accumulate((shard[kind] for shard in walk.shards), initial=0))[walk.first]
        for kind in ("products", "images")
    }
    products: Iterator[dict[str, Any]] = iter(())
    images: Iterator[dict[str, Any]] = iter(())
    if walk.tables:
        products = rows(walk.folder, "products.parquet", starts["products"])
        images = rows(walk.folder, "images.parquet", starts["images"])
    for number in range(walk.first, walk.last):
        line = walk.shards[number]
        own_products, own_images = islice(products, line["products"]), islice(images, line["images"])
        yield number, list(islice(_shard(walk, number, starts["images"], own_products, own_images), MOST_FINDINGS))
        starts["images"] += line["images"]
        for left in (own_products, own_images):
            for _ in left:
                pass


def _shard(
    walk: Walk, number: int, first_image: int, products: Iterator[dict[str, Any]], images: Iterator[dict[str, Any]]
) -> Iterator[Finding]:
    line = walk.shards[number]
    path = walk.folder / line["name"]
    size = size_of(path)
    if size is None:
        return
    samples: list[list[Member]] = []
    with reaching(path), path.open("rb") as file:
        tar = TarStream(file, size)
        # The sum is complete even where the walk ends early.
        found = list(islice(_products(tar, walk, number, first_image, products, images, samples), MOST_FINDINGS))
        if walk.tables:
            found += _end(tar, line["name"], complete=len(samples) == line["products"])
        sha256 = tar.finish()
    if sha256 != line["sha256"]:
        yield Finding(line["name"], "sha256", line["sha256"], sha256)
    yield from found
    index = path.with_suffix(".idx")
    # Names that no tar can hold were found already, and no index can hold them either.
    named = all(member.name.isascii() for members in samples for member in members)
    checked = walk.tables and len(samples) == line["products"] and named and size_of(index) is not None
    if not checked:
        return
    with reaching(index):
        content = index.read_bytes()
    if content != dali_index(samples):
        yield Finding(index.name, "DALI's index", "offsets and sizes as in the tables", "others")


def _products(
    tar: TarStream,
    walk: Walk,
    number: int,
    first_image: int,
    products: Iterator[dict[str, Any]],
    images: Iterator[dict[str, Any]],
    samples: list[list[Member]],
) -> Iterator[Finding]:
    """Findings of the products of one shard; appends the members of each product that was read to ``samples``."""
    name = walk.shards[number]["name"]
    for product in products:
        if product["first_image"] != first_image:
            yield Finding("products.parquet", "first_image", first_image, product["first_image"], product["product_id"])
        first_image += product["images"]
        expected = ExpectedProduct(tar, name, product, number)
        samples.append(expected.members(islice(images, max(0, product["images"]))))
        yield from expected.findings
    if walk.tables and (left := sum(1 for _ in images)):
        yield Finding("products.parquet", f"images of the products of {name}", f"{left} more", "as the column says")


def _end(tar: TarStream, name: str, *, complete: bool) -> Iterator[Finding]:
    if not complete:
        return
    wanted = -(-(tar.place + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - tar.place
    at, left = tar.place, tar.size - tar.place
    if left != wanted or tar.take(left).strip(b"\0"):
        yield Finding(name, f"end of the archive at byte {at}", f"{wanted} zeros", f"{left} bytes")


class ExpectedProduct:
    """What the tables say of one product, against the next members of the tar."""

    def __init__(self, tar: TarStream, shard_name: str, product: dict[str, Any], shard: int) -> None:
        self.findings: list[Finding] = []
        self._tar, self._shard_name, self._product, self._shard = tar, shard_name, product, shard

    def members(self, images: Iterator[dict[str, Any]]) -> list[Member]:
        """Read the members; returns them as the tables describe them."""
        product, meta, found = self._product, self._meta(), list(images)
        names = member_names(product["key"], len(found))
        members = [self._member(names[0], len(meta), zlib.crc32(meta))[0]]
        for view, (name, row) in enumerate(zip(names[1:], found, strict=True)):
            expected = {"key": product["key"], "view": view, "shard": self._shard, "offset": self._tar.place + BLOCK}
            for column, value in expected.items():
                if row[column] != value:
                    self._note(f"{column} of view {view} in images.parquet", value, row[column])
            member, data = self._member(name, row["size"], row["crc32"])
            self._image(name, data, row)
            members.append(member)
        if len(found) != product["images"]:
            self._note("rows in images.parquet", product["images"], len(found))
        return members

    def _meta(self) -> bytes:
        """KEY.json as products.parquet has it."""
        product = self._product
        try:
            if product["key"] != key_of(product["product_id"]):
                self._note("key", key_of(product["product_id"]), product["key"])
            record = {name: product[name] for name in LABELS} | {"attributes": json.loads(product["attributes"])}
            return json.dumps(record, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            self._note("product_id and attributes in products.parquet", "an id and a JSON object", str(error))
            return b""

    def _member(self, name: str, size: int, crc32: int) -> tuple[Member, bytes]:
        """One header, content and padding at the current place, as expected; moves past it."""
        tar, at = self._tar, self._tar.place
        try:
            wanted = header(name, size)
        except ValueError as error:
            self._note(f"name and size of {name!r} in the tables", "what a ustar header can hold", str(error))
            wanted, size = b"", 0
        block = tar.take(BLOCK)
        if block != wanted and wanted:
            self._note(f"tar header at byte {at}", f"{name}, {size} bytes", _named(block))
        member = Member(name, tar.place, size, crc32)
        content = tar.take(size)
        if zlib.crc32(content) != crc32 or len(content) != size:
            found = f"{zlib.crc32(content):08x} of {len(content)} bytes"
            self._note(f"crc32 of {name}", f"{crc32:08x} of {size} bytes", found)
        if tar.take(padded(size) - size).strip(b"\0"):
            self._note(f"padding after {name}", "zeros", "other bytes")
        return member, content

    def _image(self, name: str, data: bytes, row: dict[str, Any]) -> None:
        try:
            found = read_header(data)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                Image.open(io.BytesIO(data), formats=("JPEG",)).load()
        except Exception as error:  # a damaged JPEG may raise anything
            self._note(f"decoding {name}", "an image", f"{type(error).__name__}: {error}")
            return
        if found.fault:
            self._note(f"JPEG of {name}", "baseline, 8 bits, 4:2:0, no metadata", found.fault)
        if (found.height, found.width) != (row["height"], row["width"]):
            expected = f"{row['height']} x {row['width']}"
            self._note(f"height x width of {name}", expected, f"{found.height} x {found.width}")

    def _note(self, what: str, expected: object, found: object) -> None:
        self.findings.append(Finding(self._shard_name, what, expected, found, self._product["product_id"]))


def _named(block: bytes) -> str:
    return repr(block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")) + f" in a block of {len(block)} bytes"


def main() -> int:
    # What comes is from the parent, which is this program too.
    walk: Walk = pickle.load(sys.stdin.buffer)  # noqa: S301
    try:
        for number, findings in walked(walk):
            print(json.dumps([number, [asdict(finding) for finding in findings]], default=str), flush=True)
    except (Failure, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
