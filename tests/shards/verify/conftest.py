"""A data set that a test may damage, and damage whose sums agree with it."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.build import build
from shards.errors import BadData
from shards.index import describe, fingerprint, read_dataset, sealed
from shards.table_files import TABLES
from shards.verify import verify
from tests.shards.conftest import photograph


def redescribe(folder: Path) -> None:
    """Make dataset.json agree with the files as they are now, so that only --full can find a fault."""
    dataset = read_dataset(folder)
    for line in dataset["shards"]:
        line |= describe(folder / line["name"])
    names = [*dataset["tables"], *(["duplicates.parquet"] if (folder / "duplicates.parquet").exists() else [])]
    dataset["tables"] = {name: describe(folder / name) for name in names}
    dataset["fingerprint"] = fingerprint(dataset["shards"])
    (folder / "dataset.json").write_bytes(sealed(dataset))


def change(folder: Path, table: str, row: int, **cells) -> None:
    content = pq.read_table(folder / table)
    rows = content.to_pylist()
    rows[row] |= cells
    pq.write_table(pa.Table.from_pylist(rows, schema=content.schema), folder / table)


def is_found(folder: Path, full: bool) -> bool:
    try:
        return bool(verify(folder, full=full, workers=1).findings)
    except BadData:
        return True


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three products in two shards, a reject and a duplicate."""
    root = tmp_path_factory.mktemp("tiny")
    for number, name in enumerate(("a", "b", "c")):
        for view in range(2):
            photograph(root / "tiny" / name / f"{view}.png", 16 + number, 16, seed=view + 5 * number)
    (root / "tiny" / "a" / "9.png").touch()
    build(root / "tiny", root / "out", shard_mib=0.008, workers=0)
    row = {"key": "b", "view": 1, "kind": "near", "of_key": "b", "of_view": 0, "distance": 3}
    pq.write_table(pa.Table.from_pylist([row], schema=TABLES["duplicates.parquet"]), root / "out/duplicates.parquet")
    redescribe(root / "out")
    assert verify(root / "out", full=True).findings == []
    return root / "out"


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "tiny"))
