"""A8: manifests that nobody cleaned. Each is read to its end with rejects, or refused with the file's name."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.manifest import catalogue

ROWS: list[dict] = [
    {
        "product_id": f"p{i // 2}",
        "image_path": f"images/ä{i}.jpg",
        "product_type": "dress",
        "color": "red, dark",
        "variant_group": f"g{i // 4}",
        "split": "test" if i > 7 else "",
        "price": f"{i}.50",
        "attributes": json.dumps({"fit": 'the "slim" one', "sizes": [1, 2, {"x": None}]}),
    }
    for i in range(10)
]
VALUES = [
    *(
        "",
        " ",
        "NaN",
        "nan",
        "1e999",
        "-1",
        "a\0b",
        "a\nb",
        "a\r\nb",
        '"',
        '""',
        '"a"b"',
        "'",
        ",",
        ";",
        "\t",
        "\ufeff",
    ),
    *("é" * 9, "\U0001f600", "[" * 999, "{" * 999, '{"a":' * 99, "0" * 5000, "file:///etc", "/etc/passwd"),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "pipe:cat",
        "http://x/y",
        "file:///etc",
        "s3://",
        "s3://b",
        "a::b",
        "memory://x",
    ),
]
HUGE = ["x" * (1 << 20), "x" * ((1 << 20) + 1)]
TYPED = [None, True, 1, 1.5, float("nan"), float("inf"), -(2**70), [], {}, [1], {"a": float("nan")}, b"\xff", "\ud800"]


def as_csv(rows: list[dict], rng: random.Random) -> bytes:
    def quoted(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', rng.choice(['""', '""', '""', '"'])) + '"' if rng.random() < 0.9 else text

    header = [*rows[0]]
    if rng.random() < 0.1:
        header[rng.randrange(len(header))] = rng.choice([*header, "", "Product ID"])
    lines = [",".join(header), *(",".join(quoted(row.get(name, "")) for name in rows[0]) for row in rows)]
    if rng.random() < 0.2:
        lines[rng.randrange(len(lines))] += rng.choice([",", ",x", "\r", '"', "\0"])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def as_json_lines(rows: list[dict], rng: random.Random) -> bytes:
    lines = [json.dumps(row, default=repr, ensure_ascii=rng.random() < 0.5) for row in rows]
    if rng.random() < 0.3:
        lines[rng.randrange(len(lines))] = rng.choice(["[]", "1", "{", "null", '{"a": 1, "a": 2}', '{"a":' * 2000, ""])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def as_parquet(rows: list[dict], rng: random.Random) -> bytes:
    columns = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            columns[name] = pa.array([repr(value) for value in values])
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression=rng.choice(["none", "zstd", "snappy"]))
    return file.getvalue()


KINDS: dict[str, Callable[[list[dict], random.Random], bytes]] = {
    ".csv": as_csv,
    ".jsonl": as_json_lines,
    ".parquet": as_parquet,
}


def mutated_rows(rng: random.Random, suffix: str) -> list[dict]:
    rows = [dict(row) for row in ROWS]
    values = VALUES if suffix == ".csv" else [*VALUES, *TYPED]
    for _ in range(rng.randint(0, 3)):
        row = rng.choice(rows)
        row[rng.choice(list(row))] = rng.choice(HUGE if rng.random() < 0.02 else values)
    if rng.random() < 0.1:
        gone = rng.choice(list(ROWS[0]))
        rows = [{name: value for name, value in row.items() if name != gone} for row in rows]
    return rows


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    raw = bytearray(content)
    change = rng.random()
    if change < 0.1:
        return content.decode("utf-8", "replace").encode(rng.choice(["utf-16", "latin1", "utf-8-sig"]), "replace")
    if change < 0.2:
        return bytes(raw[: rng.randrange(len(raw) + 1)])
    for _ in range(rng.randint(1, 4) if change < 0.5 else 0):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


@pytest.mark.parametrize("suffix", KINDS)
def test_two_thousand_mutated_manifests(tmp_path: Path, suffix: str) -> None:
    """668 of each kind: products, rejects with a row number, or BadData; nothing else comes out."""
    path = tmp_path / f"m{suffix}"
    read = refused = rejected = 0
    for seed in range(668):
        rng = random.Random(seed)
        path.write_bytes(mutated_bytes(KINDS[suffix](mutated_rows(rng, suffix), rng), rng))
        try:
            found = catalogue(path)
            entries = list(found.entries)
        except BadData as error:
            assert str(path) in str(error), seed
            refused += 1
            continue
        read += 1
        rejects = [entry for entry in entries if isinstance(entry, Reject)]
        rejected += len(rejects)
        assert all(reject.reason == "bad_row" and reject.detail.startswith("row ") for reject in rejects), seed
        photographs = sum(len(entry.photographs) for entry in entries if not isinstance(entry, Reject))
        assert found.images == photographs + len(rejects), seed
        for entry in entries:
            named = [entry.product_id, entry.image_path] if isinstance(entry, Reject) else [entry.product_id]
            assert all(text.isprintable() or text.encode("utf-8") for text in named), seed
            if not isinstance(entry, Reject):
                json.dumps([entry.attributes, entry.color], ensure_ascii=False, allow_nan=False).encode("utf-8")
    # The mutations reach both ends: neither is nearly everything refused nor does nearly everything pass.
    assert read > 200 and refused > 50 and rejected > 100, (read, refused, rejected)
