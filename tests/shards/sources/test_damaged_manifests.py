"""A8: manifests with one known fault each: it costs its own row, or the file is refused with what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.manifest import catalogue

LONG_LINE = """
import resource, sys
from pathlib import Path
from shards.sources.manifest import catalogue

def peak_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

before = peak_mib()
entries = list(catalogue(Path(sys.argv[1])).entries)
print(len(entries), peak_mib() - before, entries[1].detail)
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    header = "product_id,image_path\na,1.jpg\n" if suffix == ".csv" else '{"product_id": "a", "image_path": "1.jpg"}\n'
    with path.open("w") as file:
        file.write(header + "b,")
        for _ in range(100):
            file.write("x" * 2**20)
        file.write("\n" + header.splitlines()[-1].replace("a", "c", 1))
    run = subprocess.run([sys.executable, "-c", LONG_LINE, path], capture_output=True, text=True, check=True)
    count, grown_mib, detail = run.stdout.split(" ", 2)
    number = 3 if suffix == ".csv" else 2
    assert (count, detail.strip()) == ("3", f"row {number}: a line of 104857603 bytes, allowed: 16777216")
    # Of 100 MiB at most the 16 MiB that a line may have are held, read and joined.
    assert float(grown_mib) < 70


def test_a_file_of_another_encoding_is_refused_and_a_damaged_line_rejected(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    lines = ["product_id,image_path", "ä,1.jpg", "b,2.jpg", "ö,3.jpg", "c,4.jpg"]
    path.write_bytes("\n".join(lines).encode("latin1"))
    with pytest.raises(BadData, match="is not UTF-8: byte 1 of line 2 is 0xe4"):
        catalogue(path)
    raw = "\n".join(lines).encode()
    path.write_bytes(raw.replace("ö".encode(), b"\xf6"))
    _, _, reject, _ = catalogue(path).entries
    assert reject.detail == "row 4: not UTF-8: byte 1 of line 4 is 0xf6"
    for encoding in ("utf-16", "utf-16-le"):
        path.write_bytes("\n".join(lines).encode(encoding))
        with pytest.raises(BadData):
            catalogue(path)


def rejected_rows(path: Path) -> tuple[list[str], dict[int, str]]:
    """Product ids, and the rows that were rejected with what was said of each."""
    found = catalogue(path)
    entries = list(found.entries)
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    assert found.images == len(entries), "each row is a product of one photograph, or a reject"
    told = (reject.detail.removeprefix("row ").split(": ", 1) for reject in rejects)
    return [e.product_id for e in entries if not isinstance(e, Reject)], {int(row): said for row, said in told}


@pytest.mark.parametrize("column", ["note", "image_path", "color"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_stray_quote_swallows_no_row(tmp_path: Path, column: str, closed: bool) -> None:
    names = ["product_id", "note", "image_path", "color"]
    rows = [{"product_id": f"p{row}", "note": "x", "image_path": f"{row}.jpg", "color": "red"} for row in range(2, 32)]
    rows[5 - 2][column] = '"' + rows[5 - 2][column]
    if closed:
        rows[20 - 2][column] += '"'
    path = tmp_path / "m.csv"
    path.write_text("\n".join([",".join(names), *(",".join(row.values()) for row in rows)]) + "\n")
    products, said = rejected_rows(path)
    bad = [5, 20] if closed else [5]
    assert products == [f"p{row}" for row in range(2, 32) if row not in bad]
    assert list(said) == bad and "goes on in the next line" in said[5]
    assert not closed or "the end of a quoted cell" in said[20]


def test_lines_of_a_cell_with_line_breaks_are_bad_rows_and_the_rows_around_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    lines = ["product_id,image_path,note", "a,1.jpg,x", 'b,2.jpg,"one', "two", "three,4", 'four"', 'c,3.jpg,12" heel']
    path.write_text("\n".join([*lines, 'd,4.jpg,"open']))
    products, said = rejected_rows(path)
    assert products == ["a", "c"] and list(said) == [3, 4, 5, 6, 8], "the quote of row 7 closes nothing"
    path.write_bytes(b'product_id,image_path\n\xc3\xa4,1.jpg\n"b,2.jpg\n\xff,3.jpg\nc,4.jpg\n')
    products, said = rejected_rows(path)
    assert products == ["ä", "c"] and list(said) == [3, 4] and "not UTF-8" in said[4]


def test_carriage_returns_alone_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"product_id,image_path\ra,1.jpg\rb,2.jpg\r")
    with pytest.raises(BadData, match=r"the lines of '.*' end in a carriage return alone"):
        catalogue(path)
    path.write_bytes(b"product_id,image_path\r\na,1.jpg\r\nb,2.jpg\rc,3.jpg\r\nd,4.jpg\r\n")
    products, said = rejected_rows(path)
    assert products == ["a", "d"] and said == {3: "a carriage return within the line, outside of quotes"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("product_id,image_path,color,color\na,1.jpg,x,y\n", "has the column 'color' more than once"),
        ("product_id,product_id,image_path\na,b,1.jpg\n", "has the column 'product_id' more than once"),
        ('product_id,"image_path\na,1.jpg\n', "the header of"),
        ("x" * (17 << 20), "the header of"),
    ],
)
def test_a_header_that_can_not_be_used(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(BadData, match=said):
        catalogue(tmp_path / "m.csv")


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(",product_id,image_path,\n0,a,1.jpg,\n")
    (product,) = catalogue(tmp_path / "m.csv").entries
    assert product.product_id == "a" and not product.attributes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"product_id": "p", "image_path": "x", "a": ' + "[" * 65 + "]" * 65 + "}", "nested deeper than 64"),
        ('{"product_id": "p", "image_path": "x", "attributes": "{\\"a\\": 1, \\"a\\": 2}"}', "'a' is there twice"),
        ('{"product_id": "p", "image_path": "x", "image_path": "y"}', "'image_path' is there twice"),
        ('{"product_id": "p", "image_path": "x", "\\ud800": 1}', "no Unicode text"),
        ('{"product_id": "p", "image_path": "x", "n": ' + "1" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"product_id": "p", "image_path": "x", "n": "' + "1" * (1 << 20) + '1"}', "n has 1048577 characters"),
    ],
)
def test_json_has_limits(tmp_path: Path, line: str, said: str) -> None:
    """D2: depth, size, keys that contradict each other."""
    brackets = '{"product_id": "good", "image_path": "1.jpg", "note": "' + "[{" * 99 + '"}\n'
    (tmp_path / "m.jsonl").write_text(brackets + line + "\n")
    product, reject = catalogue(tmp_path / "m.jsonl").entries
    assert product.product_id == "good" and said in reject.detail and reject.detail.startswith("row 2: ")


def test_values_that_python_can_not_hold_cost_their_row_alone(tmp_path: Path) -> None:
    ids, paths = pa.array(["a", "b", "c"]), pa.array(["1.jpg", "2.jpg", "3.jpg"])
    far = pa.array([0, 10**15, 0], pa.timestamp("ms"))
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 2, 3)))
    broken = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"x\xffz")])
    table = pa.table(
        {"product_id": ids, "image_path": paths, "made": far, "color": broken, "file": pa.array([b"\0"] * 3)}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    first, reject, last = catalogue(tmp_path / "m.parquet").entries
    assert (first.product_id, last.product_id, first.color, last.color) == ("a", "c", "x", "z")
    assert first.attributes == {"made": "1970-01-01 00:00:00"}, "columns of bytes are left out"
    assert reject.detail.startswith("row 2: made can not be read")
