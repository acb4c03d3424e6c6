"""Embeddings of real photographs, product means, and the Parquet files of skill-embed."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.errors import BadUsage, NotFinite
from skill_fast.evaluate.devices import choose_device
from skill_fast.evaluate.embed import embed, embed_all, main
from skill_fast.evaluate.products import product_means
from skill_fast.models.encoder import load_encoder


def test_embeddings_are_the_encoder_of_each_photograph(demo_index, run):
    encoder = load_encoder(run)
    rows = np.array([40, 3, 100, 0, 7])
    got = embed(demo_index, encoder, rows, batch_size=2, threads=1)
    assert got.dtype == np.float32
    for row, vector in zip(rows, got):
        [(_, image)] = EvaluationLoader(
            demo_index, np.array([row]), resize=encoder.resize, crop=encoder.image_size, batch_size=1, threads=1
        )
        # Batches of another size may sum in another order: float32 through two blocks.
        np.testing.assert_allclose(vector, encoder(image)[0].numpy(), atol=1e-4)


def test_every_embedder_sees_the_same_photographs(demo_index):
    seen = []
    found = embed_all(
        demo_index,
        {"mean": lambda images: images.mean(dim=(2, 3)), "first": lambda images: images[:, :, 0, 0]},
        np.arange(9),
        resize=40,
        crop=40,
        batch_size=4,
        threads=1,
        done=seen.append,
    )
    assert seen == [4, 4, 1]
    assert {name: values.shape for name, values in found.items()} == {"mean": (9, 3), "first": (9, 3)}


def test_values_that_are_not_finite_are_refused(demo_index):
    with pytest.raises(NotFinite, match="broken"):
        embed_all(
            demo_index,
            {"broken": lambda images: images.mean(dim=(2, 3)) * float("nan")},
            np.arange(3),
            resize=40,
            crop=40,
            threads=1,
        )


def test_product_means_by_loop():
    rng = np.random.default_rng(0)
    embeddings, product = rng.normal(size=(11, 4)).astype(np.float32), np.array([5, 2, 2, 9, 5, 5, 2, 9, 0, 0, 5])
    got = product_means(embeddings, product)
    for place, name in enumerate([0, 2, 5, 9]):
        mean = np.mean([embeddings[i].astype(np.float64) for i in range(11) if product[i] == name], axis=0)
        np.testing.assert_allclose(got[place], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("name", ["tpu", "meta", "gpu0"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(BadUsage, match=name):
        choose_device(name)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(BadUsage, match="does not exist"):
        choose_device(f"cuda:{torch.cuda.device_count()}")


def test_command_round_trip(tmp_path, demo, demo_index, run, capsys):
    out = tmp_path / "vectors.parquet"
    assert main([str(run), "--data", str(demo), "--out", str(out), "--split", "test", "--device", "cpu"]) == 0
    assert "photographs/s" in capsys.readouterr().out
    rows = demo_index.images_of(demo_index.select("test"))
    expected = embed(demo_index, load_encoder(run), rows, threads=1)
    table = pq.read_table(out)
    assert table.column_names == [
        *("product_id", "key", "view", "product_type", "color", "pattern", "variant_group", "split", "attributes"),
        "embedding",
    ]
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, atol=1e-5)
    product = demo_index.product[rows]
    assert table["product_id"].to_pylist() == demo_index.column("product_id")[product].tolist()
    assert table["view"].to_pylist() == demo_index.view[rows].tolist()
    assert set(table["split"].to_pylist()) == {"test"}
    sleeves = [json.loads(row).get("sleeve", "") for row in table["attributes"].to_pylist()]
    assert sleeves == demo_index.attribute("sleeve")[product].tolist() and len(set(sleeves)) > 1
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["step"] == "7"
    assert metadata["dataset"] == metadata["trained_on"] == demo_index.fingerprint
    means = pq.read_table(tmp_path / "vectors.products.parquet")
    assert means["attributes"].to_pylist() == demo_index.column("attributes")[demo_index.select("test")].tolist()
    assert means["product_id"].to_pylist() == demo_index.column("product_id")[demo_index.select("test")].tolist()
    assert sum(means["images"].to_pylist()) == len(rows)
    np.testing.assert_allclose(np.stack(means["embedding"].to_numpy()), product_means(expected, product), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vectors.parquet", "vectors.products.parquet"]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"run": "nowhere"}, 3, "model.json"),
        ({"data": "nowhere"}, 3, "dataset.json"),
        ({"--out": "vectors.csv"}, 2, ".parquet"),
        ({"--out": "no/such/folder/v.parquet"}, 2, "does not exist"),
        ({"--split": "night"}, 2, "all, train, test"),
        ({"--batch-size": "0"}, 2, "1 or more"),
        ({"--device": "tpu"}, 2, "cpu, cuda"),
    ],
)
def test_command_errors(tmp_path, monkeypatch, demo, run, capsys, change, code, says):
    monkeypatch.chdir(tmp_path)
    options = {"run": str(run), "data": str(demo), "--out": "v.parquet", "--split": "all"} | change
    rest = [text for name in options if name.startswith("--") for text in (name, options[name])]
    assert main([options["run"], "--data", options["data"], *rest]) == code
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not list(tmp_path.glob("*.parquet*"))
