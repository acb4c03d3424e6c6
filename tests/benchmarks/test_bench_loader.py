"""The benchmark of loaders: every contender delivers the same kind of batch, and what is told of them."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks import faults, loader
from benchmarks.loaders import BASE, CONTENDERS, MEAN, STD, VIEWS, Crops, Job
from benchmarks.loaders.__main__ import gate
from skill_fast.data.index import open_index
from skill_fast.data.reader import Reader, SkipLimits

ONE_PROCESS = {name: 1 if "ours" in name or "DALI" in name or "SPDL" in name else 0 for name in CONTENDERS}


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_every_contender_passes_the_gate(name, drawn):
    """In this process, on drawn photographs: two views of 224 and eight of 96, normalised, two of one product."""
    job = Job(name, str(drawn), batch=2, workers=ONE_PROCESS[name], device="cpu")
    batches = import_module(f"benchmarks.loaders.{CONTENDERS[name]}").batches(job)
    gate(next(batches), job)
    batches.close()


def good(job: Job) -> Crops:
    torch.manual_seed(0)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    crops = {g.name: (torch.rand(g.views, job.batch, 3, g.size, g.size) - mean) / std for g in VIEWS}
    return Crops(crops, [(1, 1), (2, 2)])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.crops.update({"local": c.crops["local"][:7]}), "local: (7, 2"),
        (lambda c: c.crops.update({"global": c.crops["global"] * 255}), "not normalised"),
        (lambda c: c.crops.update({"global": c.crops["global"] * 0}), "hardly any contrast"),
        (lambda c: c.crops["global"].__setitem__(1, c.crops["global"][0]), "two views are the same"),
        (lambda c: c.products.__setitem__(0, (1, 2)), "two products in one sample"),
    ],
)
def test_the_gate_lets_nothing_else_through(spoil, said):
    job = Job("ours", "", batch=2, workers=1, device="cpu")
    crops = good(job)
    gate(crops, job)
    spoil(crops)
    with pytest.raises(AssertionError) as failed:
        gate(crops, job)
    assert said in str(failed.value)


def test_a_base_that_fails_in_a_later_round_keeps_its_figure_and_the_first_rounds_ratio(drawn, monkeypatch, tmp_path):
    rates = {BASE: iter([10.0, None]), "ours": iter([15.0, 99.0])}

    def measured(job, seconds):
        rate = next(rates[job.name])
        return {"products_per_s": rate, "p50_ms": 1.0} if rate else {"can_not": "exit code 1"}

    monkeypatch.setattr(loader, "measure", measured)
    out, how = tmp_path / "out.jsonl", ["--rows", "ours", BASE, "--batch", "2", "--device", "cpu", "--repeats", "2"]
    assert loader.main(["--data", str(drawn), "--out", str(out), *how]) == 0
    ours, base = map(json.loads, out.read_text().splitlines())
    assert (ours["value"], ours["ratio"], ours["ratio_rounds"], ours["by_round"]) == (57.0, 1.5, 1, [15.0, 99.0])
    assert (base["value"], base["ratio"], base["by_round"]) == (10.0, 1.0, [10.0, None])


def test_ratios_are_within_a_round_and_records_are_there_after_each_measurement(drawn, monkeypatch, tmp_path):
    """A row that can not run says why and is not tried again; what is stopped leaves what was measured."""
    rates, out, lines = {BASE: iter([10.0, 20.0, 30.0]), "ours": iter([15.0, 24.0, 33.0])}, tmp_path / "out.jsonl", []

    def measured(job, seconds):
        lines.append(len(out.read_text().splitlines()) if out.exists() else 0)
        if job.name == "kornia on batches":
            return {"can_not": "kornia is not installed"}
        found = {"products_per_s": next(rates[job.name]), "p50_ms": 1.0, "p99_ms": 2.0, "cpu_percent": 100.0}
        return found | {"batches": 3}

    monkeypatch.setattr(loader, "measure", measured)
    rows = ["--rows", "ours", BASE, "kornia on batches", "--batch", "2", "--device", "cpu"]
    assert loader.main(["--data", str(drawn), "--out", str(out), *rows]) == 0
    assert lines == [0, 1, 2, 3, 3, 3, 3]
    ours, base, kornia = (json.loads(line) for line in out.read_text().splitlines())
    assert (ours["value"], ours["ratio"], ours["ratios"]) == (24.0, 1.2, [1.1, 1.5]) and base["ratio"] == 1.0
    assert ours["photographs_per_s"] == 48 and ours["crops_per_s"] == 240
    assert kornia["value"] is None and kornia["can_not"] == "kornia is not installed"


def test_a_sweep_is_a_row_a_setting():
    options = Namespace(rows=["ours"], data="d", batch=2, workers=1, device="cpu", sweep=True)
    titles = [loader.title(job) for job in loader.jobs(options)]
    assert titles[0] == "ours" and "ours, prefetch 3" in titles and "ours, hw_decoder_load 0.9" in titles


def test_photographs_are_broken_as_announced(drawn, tmp_path):
    """The tables vouch for the broken bytes: no crc32 tells, the look or the decoder does; the others stay whole."""
    copy = Path(shutil.copytree(drawn, tmp_path / "copy"))
    broken = faults.break_photographs(copy, 0.1)
    index = open_index(copy)
    assert len(broken) == round(0.1 * index.images) and set(broken.values()) == {way.__name__ for way in faults.WAYS}
    reader = Reader(index, limits=SkipLimits(max_share=1.0))
    refused = {image for image in range(index.images) if reader.read(image) is None}
    assert refused == {image for image, way in broken.items() if way != "fractional_sampling"}
    assert set(reader.bad.values()) == {"undecodable"}
    assert json.loads((copy / "dataset.json").read_text())["counts"] is not None


def test_the_cost_of_faults_is_told_by_the_clock_and_by_cpu_time(drawn, tmp_path):
    out = tmp_path / "out.jsonl"
    few = ["--batch", "4", "--steps", "12", "--block", "6", "--ways", "emptied"]
    assert faults.main(["--data", str(drawn), "--out", str(out), *few]) == 0
    clean, broken, last = (json.loads(line) for line in out.read_text().splitlines())
    one_percent = round(0.01 * clean["shapes"]["photographs"])
    assert (last["broken"], last["found_wrongly"], last["ways"]) == (one_percent, 0, ["emptied"])
    assert last["found"] <= last["broken"] and last["value"] == pytest.approx(broken["value"] / clean["value"])
    cpu_ms = last["cpu_ms_a_product"]
    assert last["ratio_of_cpu_time"] == pytest.approx(cpu_ms["clean"] / cpu_ms["broken"]) and min(cpu_ms.values()) > 0


def test_the_blocks_before_a_stop_are_written(drawn, tmp_path, monkeypatch):
    """Stopped in the fifth block of the two loaders' six: quantiles want two blocks of each, so four are told."""
    out, ends = tmp_path / "records.jsonl", []

    class Endless(faults.Loader):
        def __next__(self):
            ends.append(1)
            if len(ends) > 8:
                raise KeyboardInterrupt
            return super().__next__()

    monkeypatch.setattr(faults, "Loader", Endless)
    assert faults.main(["--data", str(drawn), "--out", str(out), "--batch", "2", "--steps", "6", "--block", "2"]) == 130
    clean, broken, ratio = (json.loads(line) for line in out.read_text().splitlines())
    assert clean["shapes"]["steps"] == 4 and clean["dtype"] == "float32" and clean["warm_up"] == 0
    assert ratio["value"] == pytest.approx(broken["value"] / clean["value"])
