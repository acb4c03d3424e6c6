"""What a source decided by itself is counted in dataset.json, shown, and summed by merge and append."""

import json
from pathlib import Path

import pytest

from shards.append import append
from shards.build import build
from shards.counting import Progress
from shards.errors import BadData
from shards.index import DATASET, read_dataset, sealed
from shards.merge import merge
from shards.summary import build_lines, summarize, summary_lines
from shards.verify import verify
from tests.shards.conftest import photograph


def built(root: Path, name: str, colors: list[str]) -> Path:
    """A data set of one product whose photographs are in ``colors``, the first of which wins."""
    lines = ["product_id,image_path,color"]
    for view, color in enumerate(colors):
        path = photograph(root / f"{name}{view}.png", 20, 24, seed=sum(map(ord, name)) * 10 + view)
        lines.append(f"{name},{path},{color}")
    (root / f"{name}.csv").write_text("\n".join(lines))
    build(root / f"{name}.csv", root / name, workers=0)
    return root / name


def noted(folder: Path) -> dict[str, int] | None:
    assert not verify(folder, full=True).findings
    return read_dataset(folder)["counts"].get("notes")


def test_notes_are_counted_shown_and_summed(tmp_path: Path) -> None:
    one, three = built(tmp_path, "one", ["red", "blue"]), built(tmp_path, "three", ["red", "blue", "green", "grey"])
    none = built(tmp_path, "none", ["red", "red"])
    assert [noted(folder) for folder in (one, three, none)] == [
        {"contradicting_labels": 1},
        {"contradicting_labels": 3},
        None,
    ]
    what = "contradicted another of the same product: the first counts, of splits the one furthest from train (test)"
    said = f"3 labels {what}"
    assert f"  {said}" in list(build_lines(three, read_dataset(three), Progress(), 1.0))
    assert any(line.split(maxsplit=1) == ["noted", said] for line in summary_lines(three, summarize(three)))
    assert not any("noted" in line for line in summary_lines(none, summarize(none)))
    assert f"  1 label {what}" in [*build_lines(one, read_dataset(one), Progress(), 1.0)]
    merge(tmp_path / "merged", [one, three, none])
    assert noted(tmp_path / "merged") == {"contradicting_labels": 4}
    append(tmp_path / "three.csv", none, workers=0)
    append(tmp_path / "one.csv", none, workers=0)
    assert noted(none) == {"contradicting_labels": 4}


@pytest.mark.parametrize("splits", [("train", "test"), ("test", "train")])
def test_what_is_said_of_contradicting_splits_is_what_happened(tmp_path: Path, splits: tuple[str, str]) -> None:
    for view in range(2):
        photograph(tmp_path / f"{view}.png", 20, 24, seed=view)
    rows = [f"a,{view}.png,{split}" for view, split in enumerate(splits)]
    (tmp_path / "m.csv").write_text("\n".join(["product_id,image_path,split", *rows]))
    dataset = build(tmp_path / "m.csv", tmp_path / "out", workers=0)
    assert noted(tmp_path / "out") == {"contradicting_labels": 1}
    assert summarize(tmp_path / "out")["labels"]["split"] == {"test": 1}
    words = "\n".join(build_lines(tmp_path / "out", dataset, Progress(), 1.0))
    assert "of splits the one furthest from train (test)" in words and "left out" not in words


def test_united_products_are_noted(tmp_path: Path) -> None:
    for number, name in enumerate(("dress/x/1.png", "shirt/x/2.png", "dress/y/1.png", "shirt/y/2.png")):
        photograph(tmp_path / "in" / name, 20, 24, seed=number)
    dataset = build(tmp_path / "in", tmp_path / "out", format="folder", on_duplicate="merge", workers=0)
    assert dataset["counts"]["notes"] == {"contradicting_labels": 2, "merged_products": 2}
    words = "\n".join(build_lines(tmp_path / "out", dataset, Progress(), 1.0))
    assert "2 products were united from several mentions" in words


@pytest.mark.parametrize("notes", [{"contradicting_labels": -1}, {"contradicting_labels": "3"}, [], 3, None])
def test_damaged_notes_are_a_fault_of_the_counts(tmp_path: Path, notes: object) -> None:
    folder = built(tmp_path, "one", ["red", "blue"])
    dataset = json.loads((folder / DATASET).read_bytes())
    dataset["counts"]["notes"] = notes
    (folder / DATASET).write_bytes(sealed(dataset))
    with pytest.raises(BadData, match="'counts' is missing or damaged"):
        read_dataset(folder)
