"""Adding a method: one class of 40 lines and a line in METHODS; loader, engine, watch and encoder as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skill_fast.models.encoder import load_encoder
from tests.conftest import metrics
from tests.engine.launch import launch


def test_forty_lines_are_a_method(drawn, tmp_path):
    source = (Path(__file__).parents[1] / "engine" / "toy_method_worker.py").read_text().splitlines()
    begin, end = source.index("# begin of the method"), source.index("# end of the method")
    assert len([line for line in source[begin + 1 : end] if line.strip()]) <= 40
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"train_batch_size": 16, "zero_optimization": {"stage": 1}}))
    [done] = launch("toy_method_worker.py", 1, str(drawn), str(tmp_path / "run"), str(ds_config))
    assert done.returncode == 0, done.stdout
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["watch/rank"] > 2
    assert "the same way" not in done.stdout
    assert load_encoder(tmp_path / "run").about["method"] == "whitened"


@pytest.mark.parametrize(("watch_every", "what"), [(10, "embeddings"), (0, "projections")])
def test_a_collapsed_encoder_is_said_in_words_once(drawn, tmp_path, watch_every, what):
    """By a look at held-out products, and without one by what the method logs of its projections."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"train_batch_size": 16, "zero_optimization": {"stage": 1}}))
    [done] = launch(
        "toy_method_worker.py", 1, str(drawn), str(tmp_path / "run"), str(ds_config), "dead", str(watch_every)
    )
    assert done.returncode == 0, done.stdout
    looked_at = [row["watch/rank"] < 2 for row in metrics(tmp_path / "run") if "watch/rank" in row]
    assert looked_at == [True] * (3 if watch_every else 0)
    assert done.stdout.count(f"step 10: the {what} point nearly the same way: try") == 1
    assert done.stdout.count("the same way") == 1
