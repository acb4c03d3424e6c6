"""The commands as a user meets them: words on stdout and stderr, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from shards.build import build
from shards.cli import main
from tests.shards.conftest import photograph
from tests.shards.data_sets import files


def run(capsys, *words: object) -> tuple[int, str, str]:
    try:
        code = main([str(word) for word in words])
    except SystemExit as ended:  # argparse
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_build_verify_info_sheet(capsys, catalogue: Path, tmp_path: Path) -> None:
    (catalogue / "shirt" / "s 1" / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    code, printed, err = run(capsys, "build", catalogue, out, "--workers", 1)
    assert code == 0 and "format folder (chosen from the source)" in printed and err == ""
    assert "6 products, 12 images, 1 shard," in printed and "not_an_image" in printed and "broken.jpg" in printed
    code, printed, err = run(capsys, "build", catalogue, out, "--workers", 2)
    assert code == 0 and "already built, nothing to do; 6 products" in printed and err == ""
    code, printed, _ = run(capsys, "verify", out, "--full")
    assert code == 0 and "no findings" in printed
    code, printed, _ = run(capsys, "info", out)
    assert code == 0 and "dress 3, shirt 3" in printed and "12 written of 13 seen" in printed
    code, printed, _ = run(capsys, "info", out, "--json")
    summary = json.loads(printed)
    assert summary["dataset"]["counts"]["products"] == 6 and summary["photographs_per_product"] == {
        "1": 2,
        "2": 2,
        "3": 2,
    }
    code, printed, _ = run(capsys, "sheet", out, tmp_path / "sheet.png", "--products", 4)
    assert code == 0 and "4 of 6 products" in printed
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 4 * 100 and len(sheet.getcolors(1 << 24)) > 100


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_build_with_closed_standard_streams(closed: str, catalogue: Path, tmp_path: Path) -> None:
    """As a daemon may start it: what it opens must not take their numbers, least of all a shard that of stderr."""
    command = [sys.executable, "-m", "shards.cli", "build", str(catalogue), str(tmp_path / "out"), "--workers", "1"]
    ended = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], timeout=60)
    assert ended.returncode == 0
    build(catalogue, tmp_path / "same", workers=0)
    assert files(tmp_path / "out") == files(tmp_path / "same")


def test_append_merge_repair(capsys, catalogue: Path, tmp_path: Path) -> None:
    one, two, both = tmp_path / "one", tmp_path / "two", tmp_path / "both"
    assert run(capsys, "build", catalogue, one, "--types", "shirt", "--split", "train=0.5,test=0.5")[0] == 0
    assert (
        run(
            capsys,
            "build",
            catalogue,
            two,
            "--types",
            "dress",
            "--split",
            "train=0.5,test=0.5",
            "--drop-duplicates",
            "near,exact",
        )[0]
        == 0
    )
    code, printed, _ = run(capsys, "merge", both, one, two)
    assert code == 0 and "dress 3" in printed and "shirt 3" in printed
    more = tmp_path / "more"
    for name in ("shirt/s 1", "shirt/new"):
        photograph(more / name / "0.png", seed=99)
    code, printed, _ = run(capsys, "append", more, both, "--workers", 1)
    assert code == 0 and "1 products added; 1 of the source's were there already; 7 in all" in printed
    code, printed, _ = run(capsys, "append", more, both, "--workers", 1)
    assert code == 0 and "0 products added; all of the source's were there already; 7 in all" in printed
    for name in ("products.parquet", "shard-000000.idx"):
        (both / name).unlink()
    assert run(capsys, "verify", both)[0] == 3
    code, printed, _ = run(capsys, "repair", both)
    assert code == 0 and "products.parquet" in printed and "shard-000000.idx" in printed
    code, printed, _ = run(capsys, "repair", both)
    assert code == 0 and "nothing to repair" in printed
    assert run(capsys, "verify", both, "--full")[0] == 0


def test_a_manifest_within_the_folder_is_taken(capsys, catalogue: Path, tmp_path: Path) -> None:
    (catalogue / "manifest.csv").write_text("product_id,image_path,color\nx,shirt/s 1/0.png,red\n")
    code, printed, _ = run(capsys, "build", catalogue, tmp_path / "out", "--workers", 1)
    assert code == 0 and "format manifest" in printed and "1 product, 1 image," in printed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["build", "nowhere", "out"], 3, "'nowhere' does not exist"),
        (["build", "empty", "out"], 3, "holds no photographs"),
        (["build", "flat", "out"], 3, "no folder in 'flat' is a product"),
        (["build", "notes.txt", "out"], 2, "file of unknown kind"),
        (["build", "wrong.csv", "out"], 3, "rename 'picture_path' to 'image_path'"),
        (["build", "bad", "out", "--workers", "1"], 3, "none of the 1 photographs"),
        (["build", "demo", "full"], 2, "other things: notes.txt"),
        (["build", "demo", "notes.txt"], 2, "is not a folder"),
        (["build", "demo", "out", "--designs", "0"], 2, "designs is 0"),
        (["build", "demo", "out", "--seed", "-1"], 2, "seed is -1"),
        (["build", "flat", "out", "--format", "folder", "--seed", "1"], 2, "with the format demo alone"),
        (["build", "demo", "out", "--preprocess", "h"], 2, "invalid choice: 'h'"),
        (["build", "demo", "out", "--max-side", "1"], 2, "16 to 8192"),
        (["verify", "nowhere"], 3, "does not exist"),
        (["verify", "empty"], 3, "holds no dataset.json"),
        (["info", "empty"], 3, "holds no dataset.json"),
        (["sheet", "empty", "x.png"], 3, "holds no dataset.json"),
        (["sheet", "empty", "x.txt"], 2, "no picture's name"),
        (["sheet", "empty", "nodir/x.png"], 2, "'nodir/x.png' would lie in a folder that does not exist"),
        (["sheet", "empty", "notes.txt/x.png"], 2, "would lie in a folder that does not exist"),
        (["sheet", "empty", "shot.png"], 2, "'shot.png' is a folder"),
        (["sheet", "empty", "x.png", "--products", "0"], 2, "1 or more"),
        (["build", "demo", "out", "--split", "train=0.5"], 2, "0.5"),
        (["build", "demo", "out", "--drop-duplicates", "far"], 2, "far"),
        (["build", "demo", "out", "--types", ""], 2, "argument --types: '' names nothing allowed: one name or more"),
        (["build", "demo", "out", "--crop-to-item", " , "], 2, "argument --crop-to-item: ' , ' names nothing"),
        (["build", "demo", "out", "--drop-duplicates", ""], 2, "argument --drop-duplicates: '' names nothing"),
        (["build", "demo", "out", "--split", ""], 2, "the split '' is no NAME=SHARE"),
        (["build", "demo", "out", "--types", '"shirt'], 2, "can not be read"),
        (["build", "demo", "out", "--types", "spaceship"], 3, "spaceship"),
        (["build", "demo", "out", "--crop-to-item", "shrit"], 3, "did you mean shirt"),
        (["build", "demo", "out", "--ray-address", "1.2.3.4:5"], 2, "with --engine ray alone"),
        (["build", "demo", "out", "--shard-mib", "inf"], 2, "shard_mib is inf"),
        (["build", "demo", "out", "--cap-per-type", "0"], 2, "0"),
        (["build", "http://x/y", "out"], 2, "s3://"),
        (["build", "", "out"], 2, "'' names no place"),
        (["build", "demo", ""], 2, "'' names no place"),
        (["merge", "out", "empty"], 3, "holds no dataset.json"),
        (["append", "demo", "empty"], 3, "holds no dataset.json"),
        (["repair", "empty"], 3, "holds no dataset.json"),
        (["paint"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_errors_say_what_came_and_end_with_their_code(capsys, tmp_path, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "flat", "full", "bad/p", "shot.png"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "flat" / "a.png")
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "bad" / "p" / "a.jpg").write_text("<html>")
    (tmp_path / "wrong.csv").write_text("product_id,picture_path\na,b.jpg\n")
    found, _, err = run(capsys, *words)
    assert found == code
    assert said in " ".join(err.split()) and "Traceback" not in err


def test_a_catalogue_of_nothing_does_not_replace_a_data_set(capsys, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("product_id,image_path\na,none.jpg\nb,none.jpg\n")
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    code, _, err = run(capsys, "build", tmp_path / "bad.csv", dataset, "--overwrite")
    assert code == 3 and "none of the 2 photographs" in err and "as it was" in err
    assert {path.name: path.read_bytes() for path in dataset.iterdir() if path.is_file()} == before
    assert run(capsys, "verify", dataset, "--full")[0] == 0


def test_shards_whose_dataset_json_is_lost_are_not_taken_for_leftovers(capsys, catalogue, dataset: Path) -> None:
    (dataset / "dataset.json").unlink()
    before = sorted(path.name for path in dataset.iterdir())
    code, _, err = run(capsys, "build", catalogue, dataset)
    assert code == 2 and "neither dataset.json nor the journal" in err
    assert sorted(path.name for path in dataset.iterdir()) == before
    assert run(capsys, "build", catalogue, dataset, "--overwrite", "--workers", 0)[0] == 0


def test_a_finding_ends_with_code_3_and_names_itself(capsys, dataset: Path) -> None:
    shard = dataset / "shard-000001.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    code, printed, err = run(capsys, "verify", dataset, "--full")
    assert (
        code == 3 and "shard-000001.tar" in printed and "product '" in printed and " in '" in err and "finding" in err
    )
