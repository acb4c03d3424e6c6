"""The contact sheet: what was written, and before and after beside each other, checked by the colours in its cells."""

from __future__ import annotations

import csv
import io
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.build import build
from shards.errors import BadData, BadUsage
from shards.sheet import CAPTION, CELL, GAP, GROUND, MOST_PIXELS, SUFFIXES, VOID, write_sheet

COLORS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 40, 200)}


def framed(path: Path, color) -> None:
    """An item of one colour in the middle of a wide white border."""
    image = Image.new("RGB", (200, 300), "white")
    image.paste(color, (75, 125, 125, 175))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three products; the second photograph of "green" is no image, and "nothing" has no good one."""
    root = tmp_path / "source"
    for name, color in COLORS.items():
        framed(root / name / "0.png", color)
        framed(root / name / "2.png", tuple(value // 2 for value in color))
    (root / "green" / "1.png").write_bytes(b"<html>")
    (root / "nothing").mkdir()
    (root / "nothing" / "0.png").write_bytes(b"")
    return root


@pytest.fixture
def dataset(source: Path, tmp_path: Path) -> Path:
    build(str(source), tmp_path / "shards", workers=0)
    return tmp_path / "shards"


def cell(sheet: Image.Image, row: int, column: int, in_pairs: bool) -> np.ndarray:
    left = CAPTION + column * (CELL + GAP) + (2 * GAP * (column // 2) if in_pairs else 0)
    top = GAP + row * (CELL + GAP)
    return np.asarray(sheet.crop((left, top, left + CELL, top + CELL)).convert("RGB")).astype(int)


def share_of(cell: np.ndarray, color, tolerance: int = 30) -> float:
    return float(np.mean(np.abs(cell - color).max(axis=2) <= tolerance))


def test_what_was_written(dataset: Path, tmp_path: Path) -> None:
    assert write_sheet(dataset, tmp_path / "sheet.png") == (3, 3)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (CAPTION + 2 * (CELL + GAP), 3 * (CELL + GAP) + GAP)
    for row, name in enumerate(sorted(COLORS)):
        assert share_of(cell(sheet, row, 0, False), COLORS[name]) > 0.5


def test_before_and_after(dataset: Path, source: Path, tmp_path: Path) -> None:
    assert write_sheet(dataset, tmp_path / "sheet.png", source=str(source)) == (3, 3)
    sheet = Image.open(tmp_path / "sheet.png")
    for row, name in enumerate(sorted(COLORS)):
        before, after = cell(sheet, row, 0, True), cell(sheet, row, 1, True)
        assert 0.01 < share_of(before, COLORS[name]) < 0.1, "as it came: letterboxed, the item small"
        assert share_of(after, COLORS[name]) > 0.5
    green = sorted(COLORS).index("green")
    # The second photograph can not be shown, nor was it written: two plates with the reason.
    for column in (2, 3):
        assert share_of(cell(sheet, green, column, True), VOID, 0) > 0.9
    half = tuple(value // 2 for value in COLORS["green"])
    assert share_of(cell(sheet, green, 4, True), half) > 0.01 and share_of(cell(sheet, green, 5, True), half) > 0.5
    blue = sorted(COLORS).index("blue")
    assert share_of(cell(sheet, blue, 4, True), GROUND, 0) == 1, "it has no third photograph"


def pairs_are_right(sheet: Image.Image) -> bool:
    """Of "green": the second is not written, the third beside its own."""
    row, half = sorted(COLORS).index("green"), tuple(value // 2 for value in COLORS["green"])
    shown = [share_of(cell(sheet, row, column, True), VOID, 0) > 0.9 for column in range(6)]
    return shown == [False, False, True, True, False, False] and share_of(cell(sheet, row, 5, True), half) > 0.5


@pytest.mark.parametrize("manifest", [False, True])
def test_the_source_may_be_named_otherwise_or_moved(
    source: Path, tmp_path: Path, manifest: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if manifest:
        rows = [f"{name},{name}/{view}.png" for name in COLORS for view in (0, 1, 2) if name == "green" or view != 1]
        (source / "list.csv").write_text("\n".join(["product_id,image_path", *rows]))
    monkeypatch.chdir(tmp_path)
    names = [Path("source"), Path("./source/../source"), source, tmp_path / "moved"]
    for built in names[:3]:
        build(str(built / "list.csv" if manifest else built), tmp_path / "shards", workers=0, overwrite=True)
        for named in names:
            if named.name == "moved":
                source.rename(named)
            write_sheet(
                tmp_path / "shards", tmp_path / "sheet.png", source=str(named / "list.csv" if manifest else named)
            )
            assert pairs_are_right(Image.open(tmp_path / "sheet.png")), (built, named)
        names[-1].rename(source)
    assert capsys.readouterr().err == ""


def test_photographs_that_can_not_be_paired_are_shown_without_an_after(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a note of the source it was built from, and where a product has gained a photograph since."""
    monkeypatch.chdir(tmp_path)
    build("source", tmp_path / "shards", workers=0)
    (tmp_path / "shards" / ".built.json").unlink()
    framed(source / "red" / "1.png", COLORS["blue"])
    write_sheet(tmp_path / "shards", tmp_path / "sheet.png", source=str(source))
    sheet = Image.open(tmp_path / "sheet.png")
    for name in ("red", "green"):
        for column in (1, 3, 5):
            assert share_of(cell(sheet, sorted(COLORS).index(name), column, True), VOID, 0) > 0.9
    blue = sorted(COLORS).index("blue")
    assert share_of(cell(sheet, blue, 1, True), COLORS["blue"]) > 0.5
    assert "2 of 3 products have other photographs" in capsys.readouterr().err


def test_products_are_chosen_by_the_seed(dataset: Path, source: Path, tmp_path: Path) -> None:
    sheets = []
    for seed in (0, 0, 1, 2):
        assert write_sheet(dataset, tmp_path / "sheet.png", products=1, seed=seed, source=str(source)) == (1, 3)
        sheets.append(Image.open(tmp_path / "sheet.png").tobytes())
    assert sheets[0] == sheets[1] and len(set(sheets)) > 1


def test_a_dropped_duplicate_is_named(source: Path, tmp_path: Path) -> None:
    (source / "red" / "1.png").write_bytes((source / "red" / "0.png").read_bytes())
    build(str(source), tmp_path / "shards", workers=0, drop_duplicates=("near",))
    write_sheet(tmp_path / "shards", tmp_path / "sheet.png", source=str(source))
    sheet = Image.open(tmp_path / "sheet.png")
    red = sorted(COLORS).index("red")
    assert share_of(cell(sheet, red, 2, True), COLORS["red"]) > 0.01, "it is shown as it came"
    assert share_of(cell(sheet, red, 3, True), VOID, 0) > 0.9


def test_a_photograph_whose_row_came_twice_was_written_once(source: Path, tmp_path: Path) -> None:
    manifest = source / "manifest.csv"
    manifest.write_text("product_id,image_path\n" + "red,red/0.png\n" * 2 + "red,red/2.png\n")
    dataset = build(str(manifest), tmp_path / "shards", workers=0)
    assert dataset["counts"]["images_rejected"] == {"bad_row": 1}
    write_sheet(tmp_path / "shards", tmp_path / "sheet.png", source=str(manifest))
    sheet = Image.open(tmp_path / "sheet.png")
    half = tuple(value // 2 for value in COLORS["red"])
    assert share_of(cell(sheet, 0, 1, True), COLORS["red"]) > 0.5 and share_of(cell(sheet, 0, 3, True), half) > 0.5


def test_a_drawn_catalogue(tmp_path: Path) -> None:
    build("demo", tmp_path / "shards", designs=2, photo_side=40, seed=3, workers=0)
    shown, total = write_sheet(tmp_path / "shards", tmp_path / "sheet.png", products=2, source="demo")
    assert shown == 2 <= total
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == CAPTION + 8 * (CELL + GAP) + 3 * 2 * GAP


def test_faults(dataset: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="no picture's name"):
        write_sheet(dataset, tmp_path / "sheet.txt")
    other = tmp_path / "other"
    framed(other / "yellow" / "0.png", (200, 200, 0))
    with pytest.raises(BadData, match="has no product 'blue', nor 2 others"):
        write_sheet(dataset, tmp_path / "sheet.png", source=str(other))
    rows = [{"product_id": "red", "image_path": "gone.png"}]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["product_id", "image_path"])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(BadData, match="has no product"):
        write_sheet(dataset, tmp_path / "sheet.png", source=str(tmp_path / "manifest.csv"))


@pytest.mark.parametrize(("suffix", "most"), [("webp", 122), ("jpg", 488), ("jpeg", 488), ("png", None)])
def test_a_sheet_is_as_high_as_its_format_allows(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, most: int | None
) -> None:
    if most is not None:
        assert most == (MOST_PIXELS[SUFFIXES[f".{suffix}"]] - GAP) // (CELL + GAP)
        monkeypatch.setattr("shards.sheet.MOST_PIXELS", dict.fromkeys(MOST_PIXELS, 2 * (CELL + GAP) + GAP))
        with pytest.raises(BadUsage, match=r"pixels high with 3 products") as caught:
            write_sheet(dataset, tmp_path / f"s.{suffix}", products=520)
        assert "--products 2" in caught.value.allowed and not (tmp_path / f"s.{suffix}").exists()
    write_sheet(dataset, tmp_path / f"s.{suffix}", products=2 if most else 3)
    with Image.open(tmp_path / f"s.{suffix}") as written:
        assert written.height == (2 if most else 3) * (CELL + GAP) + GAP


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_the_limits_of_formats_are_what_pillow_writes(name: str) -> None:
    for more in (0, 1):
        picture = Image.new("RGB", (1, MOST_PIXELS[name] + more))
        with pytest.raises((OSError, ValueError)) if more else nullcontext():
            picture.save(io.BytesIO(), name)


def test_a_seed_below_0_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="--seed is -1"):
        write_sheet(dataset, tmp_path / "sheet.png", seed=-1)
