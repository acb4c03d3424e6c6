"""LARS under DeepSpeed: the authors' update at stage 0, and a clear refusal where tensors are cut into slices."""

from __future__ import annotations

import json

import pytest

from skill_fast.engine.lars import build_lars
from skill_fast.engine.param_groups import param_groups
from skill_fast.errors import BadUsage
from tests.engine.launch import launch
from tests.engine.toy import Toy


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> list[dict]:
    path = tmp_path_factory.mktemp("lars") / "reports.json"
    [done] = launch("lars_worker.py", 1, str(path))
    assert done.returncode == 0, done.stdout
    return json.loads(path.read_text())


@pytest.mark.parametrize("place", [0, 1])
def test_updates_are_the_authors(reports, place):
    """The masters are fp32 in both precisions, and the gradients that go in are read from the model."""
    report = reports[place]
    assert report["applied"] == [True, True, False, True, True], "the step with a NaN moves nothing"
    assert report["moved"] > 1e-3
    assert report["error"] < 1e-5 * max(1.0, report["moved"])


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_that_cut_tensors_are_refused(stage):
    with pytest.raises(BadUsage, match=f"lars with ZeRO stage {stage}"):
        build_lars(param_groups(Toy()), stage=stage, precision="fp32", max_norm=0.0, momentum=0.9)


def test_a_predictors_rate_stays_at_its_peak():
    """Groups of ``constant_lr``, with and without decay, stand apart from the scheduled ones."""
    groups = {group.name: group.names for group in param_groups(Toy(), constant_lr=("middle",))}
    assert groups["constant_lr"] == ("middle.weight",) and groups["constant_lr_no_decay"] == ("middle.bias",)
    assert "middle.weight" not in groups["decay"]
