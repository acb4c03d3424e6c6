"""The whole evaluation on a drawn data set: rows, protocol, reasons for what is absent, and the command."""

import csv
import io
import json
import math
import shutil

import numpy as np
import pytest
from rich.console import Console

from shards.build import build
from skill_fast.data.index import open_index
from skill_fast.errors import BadUsage
from skill_fast.evaluate.command import main
from skill_fast.evaluate.products import select_products
from skill_fast.evaluate.suite import evaluate, print_table

ROWS = ["trained", "untrained", "raw pixels", "grey pixels", "colour histogram"]


@pytest.fixture(scope="module", autouse=True)
def short_probes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skill_fast.evaluate.probe.EPOCHS", 2)
        yield


@pytest.fixture(scope="module")
def result(run, demo):
    return evaluate(run, demo, device="cpu", threads=1)


def test_five_rows_with_the_same_scores(result):
    assert list(result["rows"]) == ROWS
    names = [list(scores) for scores in result["rows"].values()]
    assert all(each == names[0] for each in names)
    wanted = {
        "knn/type/accuracy",
        "probe/pattern/linear/recall@90",
        "knn/color/majority",
        "knn/pattern/queries",
        "variants/ari",
        "variants/cgacc_majority",
        "retrieval/same_product/recall@1",
        "retrieval/other_color/recall@5",
        "retrieval/other_color/map",
        "color/clusters/mean",
        "color/ceiling/mean",
        "color/floor/mean",
        "color/nearest",
        "color/design/pattern/purity",
        "color/design/variant_group/nmi",
    }
    assert wanted <= set(names[0])
    assert all(math.isfinite(value) for scores in result["rows"].values() for value in scores.values())
    assert json.loads(json.dumps(result)) == result


def test_every_score_of_the_suite_has_an_interval_and_replicates(result):
    scores = result["rows"]["trained"]
    counts = (
        "queries",
        "gallery",
        "bank",
        "classes",
        "groups",
        "products",
        "validation",
        "train",
        "test",
        "threshold",
        "k",
        "colors",
    )
    controls = ("majority", "purity_by_chance", "nearest_floor")
    for name, value in scores.items():
        if name.endswith(("_low", "_high", *counts, *controls)) or name.startswith(("color/ceiling", "color/floor")):
            continue
        assert scores[f"{name}_low"] <= value <= scores[f"{name}_high"], name
        assert len(result["replicates"][name]) == 1000
    assert result["approximations"] == {}


def test_what_was_approximated_is_said_in_result_and_table(monkeypatch, run, demo):
    monkeypatch.setattr("skill_fast.evaluate.retrieval.RANKED_PAIRS", 1000)
    monkeypatch.setattr("skill_fast.evaluate.clusters.DIRECT", 10)
    monkeypatch.setattr("skill_fast.evaluate.clusters.CELL", 10)
    result = evaluate(run, demo, ["color", "retrieval"], device="cpu", threads=1)
    said = result["approximations"]["trained"]
    assert set(said) == {"color/clusters", "retrieval/same_product"}
    assert "drawn from" in said["retrieval/same_product"] and "MiniBatchKMeans" in said["color/clusters"]
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(result, console)
    assert f"color/clusters: {said['color/clusters']}" in console.export_text()


def test_drawn_products_show_what_they_must(result):
    rows = result["rows"]
    # The histogram knows colours and no designs; so the drawn products say.
    assert rows["colour histogram"]["knn/color/accuracy"] > 2 * rows["grey pixels"]["knn/color/accuracy"]
    assert rows["colour histogram"]["color/clusters/mean"] == pytest.approx(rows["trained"]["color/floor/mean"])
    assert rows["trained"] != rows["untrained"]
    recall = [rows["trained"][f"retrieval/same_product/recall@{k}"] for k in (1, 5, 10)]
    assert recall == sorted(recall)


def test_held_out_products_are_asked_and_the_others_vote(result, demo_index):
    products = select_products(demo_index)
    split = demo_index.column("split")
    assert result["split"] == "test" and "bank: train" in result["protocol"]
    assert set(split[products.rows[products.queries]]) == {"test"}
    assert set(split[products.rows[products.bank]]) == {"train"}
    assert result["products"] == int((split == "test").sum())
    assert result["photographs"] == int(demo_index.images_per_product[split == "test"].sum())
    of_image = demo_index.product[products.images]
    np.testing.assert_array_equal(of_image, products.rows[products.product_of_image])
    both = select_products(demo_index, "all")
    np.testing.assert_array_equal(both.queries, both.bank)
    assert len(both.rows) == demo_index.products


def test_only_the_tasks_that_were_asked_for(run, demo):
    scores = evaluate(run, demo, ["knn"], device="cpu", threads=1)["rows"]["trained"]
    assert {name.split("/")[0] for name in scores} == {"knn"}


def test_probes_are_scored_and_shown(result):
    scores = result["rows"]["trained"]
    assert scores["probe/color/linear/accuracy_low"] <= scores["probe/color/linear/accuracy"]
    assert 0 <= scores["probe/color/nonlinear/recall@95"] <= scores["probe/color/nonlinear/recall@90"] <= 1
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(result, console)
    text = console.export_text()
    assert "Probes on frozen embeddings" in text
    assert "every other variant group of the evaluated split" in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_table_shows_every_score_at_every_width(result, width):
    console = Console(record=True, width=width, force_terminal=True, file=io.StringIO())
    print_table(result, console)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    words = set(text.split())
    for name in ("type", "pattern", "product", "colour", "entropy", "purity", "(most", "chance)", "R@5"):
        assert name in words
    for name, scores in result["rows"].items():
        assert name in text
        for score in ("knn/pattern/accuracy", "retrieval/same_product/recall@1", "color/clusters/mean"):
            assert f"{scores[score]:.3f}" in words
    assert f"{result['rows']['trained']['color/ceiling/mean']:.2f}" in text


def photographs(folder, source):
    """Real JPEG files of the drawn data set, for a folder data set without labels."""
    index = open_index(source)
    for row in range(60):
        product = folder / f"product-{index.product[row]:03d}"
        product.mkdir(parents=True, exist_ok=True)
        with open(index.shard_path(row), "rb") as shard:
            shard.seek(int(index.offset[row]))
            (product / f"{index.view[row]}.jpg").write_bytes(shard.read(int(index.size[row])))


def test_data_without_labels_says_what_is_missing(tmp_path, run, demo):
    photographs(tmp_path / "photographs", demo)
    build(tmp_path / "photographs", tmp_path / "shards", format="folder", workers=0)
    result = evaluate(run, tmp_path / "shards", device="cpu", threads=1)
    assert result["split"] == "all"
    assert "no product has this label" in result["absent"]["knn/pattern"]
    assert "design labels" in result["absent"]["color"]
    assert "two colours" in result["absent"]["retrieval/other_color"]
    assert 0 <= result["rows"]["trained"]["retrieval/same_product/recall@1"] <= 1
    console = Console(record=True, width=120, file=io.StringIO())
    print_table(result, console)
    assert "no color: no design labels" in console.export_text()


def test_colors_come_from_the_photographs_where_the_catalogue_has_none(tmp_path, run, demo):
    photographs(tmp_path / "photographs", demo)
    index = open_index(demo)
    pattern, color = index.column("pattern"), index.column("color")
    files = sorted((tmp_path / "photographs").rglob("*.jpg"))
    # Every product stands twice, so that there are enough of them.
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["product_id", "image_path", "pattern", "color"])
        for twin in "ab":
            for path in files:
                product = int(path.parent.name.removeprefix("product-"))
                known = color[product] if product % 2 else ""
                writer.writerow([f"{path.parent.name}{twin}", path, pattern[product], known])
    build(tmp_path / "manifest.csv", tmp_path / "shards", format="manifest", workers=0)
    result = evaluate(run, tmp_path / "shards", ["color"], device="cpu", threads=1)
    assert result["color_source"].startswith("catalogue for ") and "photographs for" in result["color_source"]
    scores = result["rows"]["grey pixels"]
    assert 0 < scores["color/floor/mean"] < scores["color/ceiling/mean"] <= math.log(scores["color/colors"])
    assert scores["color/products"] == result["products"]
    assert "color" not in result["absent"]


def test_command_writes_json_and_finds_the_data_itself(tmp_path, run, capsys):
    out = tmp_path / "scores.json"
    assert main([str(run), "--json", str(out), "--device", "cpu"]) == 0
    saved = json.loads(out.read_text())
    assert list(saved["rows"]) == ROWS and saved["step"] == 7 and saved["run"] == str(run)
    assert "kNN accuracy" in capsys.readouterr().out


def test_unknown_tasks_are_refused(run, demo):
    with pytest.raises(BadUsage, match="'sing' is not known"):
        evaluate(run, demo, ["knn", "sing"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["RUN", "--data", "DATA", "--tasks", "knn,sing"], 2, "knn, probe, color, variants, retrieval"),
        (["RUN", "--data", "DATA", "--tasks", ","], 2, "no task"),
        (["RUN", "--data", "DATA", "--split", "night"], 2, "all, train, test"),
        (["RUN", "--data", "nowhere"], 3, "dataset.json"),
        (["RUN", "--data", "DATA", "--json", "no/such/folder/x.json"], 2, "does not exist"),
        (["RUN", "--data", "DATA", "--json", "."], 2, "is a folder"),
        (["RUN", "--data", "DATA", "--json", "bare"], 2, "is a folder"),
        (["nowhere", "--data", "DATA"], 3, "model.json"),
        (["BARE", "--data", "DATA"], 3, "teacher.safetensors"),
        (["NODATA"], 2, "--data DIR"),
    ],
)
def test_command_errors(tmp_path, monkeypatch, run, demo, capsys, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "bare")
    (tmp_path / "bare" / "teacher.safetensors").unlink()
    shutil.copytree(run, tmp_path / "nodata")
    (tmp_path / "nodata" / "config.yaml").write_text("data: ''\n")
    # Each is refused before anything is scored.
    monkeypatch.setattr("skill_fast.evaluate.suite.score", None)
    places = {"RUN": str(run), "DATA": str(demo), "BARE": "bare", "NODATA": "nodata"}
    assert main([places.get(argument, argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
