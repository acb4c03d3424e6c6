"""Is a data set what its dataset.json says? Every finding names the file, the product, what was expected and found."""

from __future__ import annotations

import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shards.build import OWN_NAMES
from shards.index import TABLES, fingerprint, read_dataset, sha256_of
from shards.jpeg import read_header
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.writer import BLOCK, Member, dali_index, header, member_names, padded


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


@dataclass
class Report:
    findings: list[Finding] = field(default_factory=list)
    checked: str = ""


def verify(folder: Path, *, full: bool = False) -> Report:
    """Compare every file with dataset.json: sizes and sha256; with ``full`` walk every tar and table as well.

    full: for each product of products.parquet, in order
              its members follow each other in its shard, with the header that the format asks for
              KEY.json says what products.parquet says
              offset, size, crc32, height and width are those of images.parquet; the JPEG is baseline 4:2:0 and decodes
          counts add up: images seen = written + rejected

    Raises BadData where there is no readable dataset.json.
    """
    dataset = read_dataset(folder)
    findings = list(_files(folder, dataset))
    shards = dataset["shards"]
    checked = f"{len(shards)} shards, {sum(shard['bytes'] for shard in shards):,} bytes match their sha256"
    if full:
        # Tables that are not the ones of the build say nothing about the tars.
        if not any(finding.file in TABLES for finding in findings):
            tables = {name: pq.read_table(folder / name) for name in TABLES}
            findings += [*_counts(dataset, tables), *_walk(folder, dataset, tables)]
        checked += f"; {dataset['counts']['images_written']:,} images decoded"
    return Report(findings, checked)


def _files(folder: Path, dataset: dict) -> Iterator[Finding]:
    described = {shard["name"]: shard for shard in dataset["shards"]} | dataset["tables"]
    for name, expected in described.items():
        path = folder / name
        if not path.is_file():
            yield Finding(name, "file", f"{expected['bytes']} bytes", "nothing")
        elif path.stat().st_size != expected["bytes"]:
            yield Finding(name, "bytes", expected["bytes"], path.stat().st_size)
        elif (found := sha256_of(path)) != expected["sha256"]:
            yield Finding(name, "sha256", expected["sha256"], found)
    if (found := fingerprint(dataset["shards"])) != dataset["fingerprint"]:
        yield Finding("dataset.json", "fingerprint of the shard lines", dataset["fingerprint"], found)
    indices = {Path(shard["name"]).with_suffix(".idx").name for shard in dataset["shards"]}
    own = {path.name for path in folder.iterdir() if OWN_NAMES.fullmatch(path.name)}
    for name in sorted(indices - own):
        yield Finding(name, "file", "DALI's index", "nothing")
    for name in sorted(own - described.keys() - indices - {"dataset.json"}):
        yield Finding(name, "file", "nothing: dataset.json does not list it", "a file")


def _counts(dataset: dict, tables: dict[str, pa.Table]) -> Iterator[Finding]:
    counts = dataset["counts"]
    reasons = Counter(tables["rejected.parquet"]["reason"].to_pylist())
    images = {reason: reasons[reason] for reason in IMAGE_REASONS if reasons[reason]}
    products = {reason: reasons[reason] for reason in PRODUCT_REASONS if reasons[reason]}
    for file, what, expected, found in (
        ("images.parquet", "rows", counts["images_written"], len(tables["images.parquet"])),
        ("products.parquet", "rows", counts["products"], len(tables["products.parquet"])),
        ("rejected.parquet", "rejected images by reason", counts["images_rejected"], images),
        ("rejected.parquet", "rejected products by reason", counts["products_rejected"], products),
        ("rejected.parquet", "reasons that are not in the list", 0, reasons.total() - _sum(images) - _sum(products)),
        (
            "dataset.json",
            "images seen (= written + rejected)",
            counts["images_seen"],
            counts["images_written"] + _sum(counts["images_rejected"]),
        ),
        ("dataset.json", "images of the shards", counts["images_written"], sum(s["images"] for s in dataset["shards"])),
        ("dataset.json", "products of the shards", counts["products"], sum(s["products"] for s in dataset["shards"])),
    ):
        if expected != found:
            yield Finding(file, what, expected, found)


def _sum(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _walk(folder: Path, dataset: dict, tables: dict[str, pa.Table]) -> Iterator[Finding]:
    products, images = _rows(tables["products.parquet"]), _rows(tables["images.parquet"])
    image_row = 0
    for number, shard in enumerate(dataset["shards"]):
        path = folder / shard["name"]
        if not path.is_file():
            for product in _take(products, shard["products"]):
                image_row += len(_take(images, product["images"]))
            continue
        data = _Tar(path)
        samples = []
        for product in _take(products, shard["products"]):
            rows = _take(images, product["images"])
            if product["first_image"] != image_row:
                yield Finding(
                    "products.parquet", "first_image", image_row, product["first_image"], product["product_id"]
                )
            image_row += product["images"]
            samples.append(data.expect(product, rows, number))
        data.expect_end()
        yield from data.findings
        index = path.with_suffix(".idx")
        if index.is_file() and not data.findings and index.read_bytes() != dali_index(samples):
            yield Finding(index.name, "DALI's index", "offsets and sizes of the tar", "others")


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _take(rows: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [row for _, row in zip(range(count), rows, strict=False)]


class _Tar:
    """One shard that is read from front to back and compared with what the tables say comes next."""

    def __init__(self, path: Path) -> None:
        self.name, self._data, self._place = path.name, path.read_bytes(), 0
        self.findings: list[Finding] = []

    def expect(self, product: dict[str, Any], rows: list[dict[str, Any]], shard: int) -> list[Member]:
        """The next members are those of ``product``; returns them as the tables describe them."""
        members = []
        names = member_names(product["key"], product["images"])
        meta = self._meta(product)
        members.append(self._member(product, names[0], len(meta), zlib.crc32(meta)))
        for view, (name, row) in enumerate(zip(names[1:], rows, strict=False)):
            for column, expected in (
                ("key", product["key"]),
                ("view", view),
                ("shard", shard),
                ("offset", self._place + BLOCK),
            ):
                if row[column] != expected:
                    self._note(product, f"{column} of view {view} in images.parquet", expected, row[column])
            offset = self._place + BLOCK
            members.append(self._member(product, name, row["size"], row["crc32"]))
            self._image(product, name, self._data[offset : offset + row["size"]], row)
        if len(rows) != product["images"]:
            self._note(product, "rows in images.parquet", product["images"], len(rows))
        return members

    def expect_end(self) -> None:
        rest = self._data[self._place :]
        if len(rest) < 2 * BLOCK or rest.strip(b"\0"):
            self.findings.append(
                Finding(self.name, f"end of the archive at byte {self._place}", "zero blocks", f"{len(rest)} bytes")
            )

    def _meta(self, product: dict[str, Any]) -> bytes:
        """KEY.json as products.parquet has it."""
        names = ("product_id", "product_type", "color", "pattern", "variant_group", "split")
        record = {name: product[name] for name in names} | {"attributes": json.loads(product["attributes"])}
        return json.dumps(record, ensure_ascii=False).encode("utf-8")

    def _member(self, product: dict[str, Any], name: str, size: int, crc32: int) -> Member:
        """One header, content and padding at the current place, as expected; moves past it."""
        if self._data[self._place : self._place + BLOCK] != header(name, size):
            self._note(product, f"tar header at byte {self._place}", f"{name}, {size} bytes", self._header_found())
        offset = self._place + BLOCK
        content = self._data[offset : offset + size]
        if zlib.crc32(content) != crc32:
            self._note(product, f"crc32 of {name}", f"{crc32:08x}", f"{zlib.crc32(content):08x}")
        self._place = offset + padded(size)
        if self._data[offset + size : self._place].strip(b"\0"):
            self._note(product, f"padding after {name}", "zeros", "other bytes")
        return Member(name, offset, size, crc32)

    def _header_found(self) -> str:
        block = self._data[self._place : self._place + BLOCK]
        return (
            repr(block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")) + f" in a block of {len(block)} bytes"
        )

    def _image(self, product: dict[str, Any], name: str, data: bytes, row: dict[str, Any]) -> None:
        try:
            found = read_header(data)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                Image.open(io.BytesIO(data), formats=("JPEG",)).load()
        except Exception as error:  # a damaged JPEG may raise anything
            self._note(product, f"decoding {name}", "an image", f"{type(error).__name__}: {error}")
            return
        if found.fault:
            self._note(product, f"JPEG of {name}", "baseline, 8 bits, 4:2:0, no metadata", found.fault)
        if (found.height, found.width) != (row["height"], row["width"]):
            expected = f"{row['height']} x {row['width']}"
            self._note(product, f"height x width of {name}", expected, f"{found.height} x {found.width}")

    def _note(self, product: dict[str, Any], what: str, expected: object, found: object) -> None:
        self.findings.append(Finding(self.name, what, expected, found, product["product_id"]))
