"""The short calibration: what it tries, what it takes, what it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from skill_fast.data import calibration
from skill_fast.data.calibration import ENOUGH, calibrated
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.views import ViewGroup

VIEWS = (ViewGroup("global", (0, 1), 16, (0.4, 1.0)),)
BATCH = {"global_batch": 8}
ON = LoaderConfig(calibrate="on", window_shards=2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILL_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "LEAST_S", 0.0)
    return tmp_path / "cache" / "calibration"


def answers(monkeypatch, products_per_s):
    """Let rates come from a function of the tried configuration; returns the list of what was tried."""
    tried = []

    def rate(index, views, config, **options):
        tried.append((config.threads, config.prefetch))
        return products_per_s(config)

    monkeypatch.setattr(calibration, "_products_per_s", rate)
    return tried


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_on_a_cpu_nothing_is_measured_unless_asked(index, monkeypatch, mode, cache):
    tried = answers(monkeypatch, lambda config: 1.0)
    found = calibrated(index, VIEWS, replace(ON, calibrate=mode), cores=3, **BATCH)
    assert found.config.settings() == (3, 2, 0.65) and found.rates == () and tried == [] and not cache.exists()
    assert str(found) == "loader: 3 threads, prefetch 2, hw_decoder_load 0.65"


def test_one_setting_after_the_other_and_the_first_that_is_fast_enough(index, monkeypatch):
    speeds = {2: 50.0, 4: 97.5, 6: 100.0}
    tried = answers(monkeypatch, lambda config: speeds[config.threads] * (1.2 if config.prefetch == 3 else 1.0))
    found = calibrated(index, VIEWS, ON, cores=6, **BATCH)
    assert tried == [(2, 2), (4, 2), (6, 2), (4, 2), (4, 3), (4, 4)]  # 97.5 is within 3 % of 100
    assert found.config.settings()[:2] == (4, 3)
    assert [rate for _, _, rate in found.rates] == pytest.approx([50, 97.5, 100, 97.5, 117, 97.5]) and ENOUGH == 0.97
    assert "threads 2: 50, 4: 98, 6: 100; prefetch 2: 98, 3: 117, 4: 98" in str(found)


def test_what_is_set_by_hand_stays(index, monkeypatch):
    tried = answers(monkeypatch, lambda config: float(config.prefetch))
    found = calibrated(index, VIEWS, replace(ON, threads=5, hw_decoder_load=0.0), cores=2, **BATCH)
    assert tried == [(5, 2), (5, 3), (5, 4)] and found.config.settings() == (5, 4, 0.0)
    everything = replace(ON, threads=1, prefetch=1, hw_decoder_load=0.5)
    assert calibrated(index, VIEWS, everything, cores=2, **BATCH).rates == () and len(tried) == 3


def test_kept_for_the_same_machine_data_views_and_batch(index, monkeypatch, cache):
    tried = answers(monkeypatch, lambda config: 1.0)
    first = calibrated(index, VIEWS, ON, cores=2, **BATCH)
    again = calibrated(index, VIEWS, ON, cores=2, **BATCH)
    assert len(tried) == 4 and again.cached and not first.cached
    assert (again.config, again.rates) == (first.config, first.rates) and "from the cache" in str(again)
    calibrated(index, VIEWS, ON, cores=2, global_batch=16)
    calibrated(index, VIEWS, ON, cores=4, **BATCH)
    assert len(tried) == 4 + 4 + 5
    for file in cache.iterdir():
        file.write_text('{"chosen": {"threads": 77, "prefetch": 2}, "rates": []}')
    assert not calibrated(index, VIEWS, ON, cores=2, **BATCH).cached  # 77 threads were never tried


def test_ranks_choose_alike(index, monkeypatch):
    """What decides is what ``agree`` made of a rank's own number, the question of the cache included."""
    answers(monkeypatch, lambda config: float(config.threads))
    others = {2.0: 2.0, 4.0: 1.0}  # the slowest rank is slower with four threads
    found = calibrated(index, VIEWS, ON, agree=lambda mine: others.get(mine, mine), cores=4, **BATCH)
    assert found.config.threads == 2
    assert not calibrated(index, VIEWS, ON, agree=lambda mine: 0.0, cores=4, **BATCH).cached


def test_measured_for_real_and_the_crops_do_not_change(index):
    found = calibrated(index, VIEWS, ON, cores=2, **BATCH)
    assert {name for name, _, _ in found.rates} == {"threads", "prefetch"}
    assert all(rate > 0 for _, _, rate in found.rates)
    by_rule = LoaderConfig(window_shards=2)
    with (
        Loader(index, VIEWS, config=found.config, **BATCH) as one,
        Loader(index, VIEWS, config=by_rule, **BATCH) as other,
    ):
        assert torch.equal(next(one).crops["global"], next(other).crops["global"])
