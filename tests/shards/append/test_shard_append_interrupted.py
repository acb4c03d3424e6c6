"""An append that ends before its products arrive: the same command goes on, another starts over, repair tidies up."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.cli import main
from shards.repair import repair
from tests.shards.append.conftest import NEW, OLD, catalogue
from tests.shards.data_sets import assert_whole, files
from tests.shards.kills import Killed


def test_an_interrupted_build_goes_on(out: Path, grown: Path, tmp_path: Path) -> None:
    """Until the arrival the data set is the old one, and what was built is not built again."""
    shutil.copytree(out, tmp_path / "whole")
    append(grown, tmp_path / "whole", workers=0)
    before = files(out)

    def stop(done: Any) -> None:
        if done.products == 4:
            raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    assert {name: data for name, data in files(out).items() if not name.startswith(".append")} == before
    assert_whole(out)
    resumed = []
    append(grown, out, workers=0, progress=lambda done: resumed.append(done.resumed))
    assert max(resumed) > 0
    assert files(out) == files(tmp_path / "whole")


def test_what_another_append_prepared_is_not_taken(out: Path, grown: Path, tmp_path: Path) -> None:
    def stop(done: Any) -> None:
        if done.products == 4:
            raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    append(catalogue(tmp_path, {"z": 1}, "other"), out, workers=0)
    assert_whole(out)
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist() == [*OLD, "z"]


def test_repair_removes_what_was_only_prepared(out: Path, grown: Path) -> None:
    before = files(out)

    def stop(done: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        append(grown, out, workers=0, progress=stop)
    (line,) = repair(out)
    assert "run it again" in line
    assert files(out) == before


@pytest.mark.parametrize("killed", ["before tables", "before arrival", "amid tidying of the build"])
@pytest.mark.parametrize("gains", [False, True])
def test_what_an_interrupted_append_had_prepared_is_told_and_what_came_since_is_added(
    out: Path, grown: Path, tmp_path: Path, killed: str, gains: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    at = {
        "before tables": "shards.append.prepare",
        "before arrival": "shards.append.arrive",
        "amid tidying of the build": "shards.output.LocalOutput.remove_journal",
    }[killed]

    def kill(*arguments: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(at, kill)
        append(grown, out, workers=0)
    if gains:
        catalogue(tmp_path, OLD | NEW | {"g": 1, "h": 2}, "grown")
    assert main(["append", str(grown), str(out), "--workers", "0"]) == 0
    assert_whole(out)
    ids = pq.read_table(out / "products.parquet")["product_id"].to_pylist()
    assert ids == [*OLD, *NEW, *(["g", "h"] if gains else [])]
    said = capsys.readouterr().out
    assert "4 products added that an interrupted append had prepared" in said
    last = (
        "2 more products added; 7 of the source's were" if gains else "0 more products added; all of the source's were"
    )
    assert f"{last} there already; {9 if gains else 7} in all" in said


def test_a_prepared_append_arrives_though_a_known_product_is_an_error(out: Path, tmp_path: Path) -> None:
    new = catalogue(tmp_path, NEW, "new")

    def kill(*arguments: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("shards.append.prepare", kill)
        append(new, out, on_duplicate="error", workers=0)
    append(new, out, on_duplicate="error", workers=0)
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist() == [*OLD, *NEW]
