"""The CNN presets from shards to encoder: LARS, batch norm, ZeRO 0, two ranks."""

from __future__ import annotations

import pytest

from skill_fast.models.encoder import load_encoder
from tests.conftest import metrics

SMALL = [
    *("--backbone.name", "test_resnet", "--backbone.image-size", "32", "--log-every", "1", "--no-evaluate"),
    *("--steps", "4", "--byol.hidden", "32", "--byol.projection", "16", "--simclr.hidden", "32"),
    *("--watch-every", "4", "--watch-products", "16"),
]


@pytest.mark.parametrize(("preset", "ranks"), [("byol_resnet50", 2), ("simclr_resnet50", 0)])
def test_a_cnn_trains_with_lars(trainer, tmp_path, preset, ranks):
    options = ["--preset", preset, *SMALL]
    output = trainer.run(tmp_path / "run", *options, toy=False, ranks=ranks, ds_config="zero0")
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2, 3, 4], output
    assert all(row["grad_norm"] > 0 for row in rows) and "watch/rank" in rows[-1]
    encoder, untrained = (load_encoder(tmp_path / "run", untrained=u) for u in (False, True))
    state = encoder.backbone.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    fresh = untrained.backbone.state_dict()
    assert any("running_mean" in name and not state[name].equal(fresh[name]) for name in state)


def test_lars_with_sharded_masters_is_refused_with_the_file_to_take(trainer, tmp_path):
    output = trainer.run(tmp_path / "run", "--preset", "byol_resnet50", *SMALL, toy=False, code=2)
    assert "lars with ZeRO stage 2" in output and "zero0.json" in output
