"""skill-embed and skill-eval over object storage say what they say over the folder."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from skill_fast.evaluate import command, embed


@pytest.fixture
def remote(s3, demo) -> str:
    shutil.copytree(demo, s3.local(s3.url))
    return s3.url


def test_embeddings_and_scores_are_those_of_the_folder(tmp_path, run, demo, remote, capsys):
    cache = ["--cache-dir", str(tmp_path / "cache"), "--cache-gib", "0.01"]
    vectors, scores = [], []
    for name, data, more in (("near", str(demo), []), ("far", remote, cache)):
        options = ["--data", data, "--device", "cpu", *more]
        assert embed.main([str(run), *options, "--out", str(tmp_path / f"{name}.parquet")]) == 0
        vectors.append(pq.read_table(tmp_path / f"{name}.parquet"))
        assert command.main([str(run), *options, "--tasks", "knn", "--json", str(tmp_path / "scores.json")]) == 0
        scores.append(json.loads((tmp_path / "scores.json").read_text()))
    assert vectors[0].equals(vectors[1])
    assert scores[0]["rows"] == scores[1]["rows"] and scores[1]["data"] == remote
    assert len(list((tmp_path / "cache").iterdir())) == 4  # a shard, two tables, the lock


@pytest.mark.parametrize(
    ("gib", "said"),
    [("0", "more than 0"), ("inf", "more than 0"), ("nan", "more than 0"), ("0.0000001", "may have 107")],
)
def test_a_bound_that_can_not_be_is_refused(tmp_path, run, remote, capsys, gib, said):
    cache = ["--cache-dir", str(tmp_path), "--cache-gib", gib]
    assert command.main([str(run), "--data", remote, "--device", "cpu", *cache]) == 2
    assert said in capsys.readouterr().err
