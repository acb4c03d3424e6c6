"""The model of scaling against hand-made sums and against what real steps send; the measurement's records."""

from __future__ import annotations

import json
import math
import os
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling
from benchmarks.charts.scaling import job_of
from benchmarks.processes import end
from benchmarks.scaling import main
from benchmarks.scaling_model import (
    CENTER,
    FABRICS,
    GPUS,
    Fabric,
    Job,
    at_global_batch,
    communication_ms,
    efficiency,
    fastest_stage,
    first_that_shows,
    payload_bytes,
    share_of_links,
    state_bytes,
    step_ms,
)
from benchmarks.traffic import Traffic
from tests.benchmarks.rows import gpu_rows, write
from tests.conftest import TINY

SLOW = Fabric("slow", node_gb_per_s=10.0, network_gb_per_s=1.0, gpus_a_node=4, reached=0.5, latency_us=100.0)
TOY = Job("toy", batch=8, compute_ms=50.0, parameters=1_000_000, prototypes=1000, memory_gb_per_s=100.0)
jobs = st.builds(
    Job, name=st.just("x"), batch=st.integers(1, 512), compute_ms=st.floats(50, 500), parameters=st.integers(1, 10**8)
)


def test_a_step_by_hand():
    # 2 MB at 5 GB/s inside a node of four: 2 (N-1)/N = 1.5 times for gradients, .75 for each gather; 0.1 ms a doubling
    assert communication_ms(TOY, 2, 4, SLOW) == pytest.approx(
        {"gradients": 0.2 + 1.5 * 2e6 / 5e6, "teacher": 0.2 + 0.75 * 2e6 / 5e6, "parameters": 0.2 + 0.75 * 2e6 / 5e6}
    )
    saved = 44 * 1e6 * 0.75 / 100e6  # three quarters of 44 bytes a parameter at 100 GB/s
    assert step_ms(TOY, 2, 4, SLOW) == pytest.approx(50 - saved + 0.8 + 0.5 + 0.5)


def test_between_nodes_their_links_share_the_load():
    # 8 GPUs are two nodes: 4 x 1 GB/s leave a node, half of it reached: 2 GB/s.
    wanted = 0.3 + 2 * 7 / 8 * 2e6 / 2e6
    assert communication_ms(TOY, 0, 8, SLOW)["gradients"] == pytest.approx(wanted)


def test_state_by_hand():
    # Weights 2, gradients 2, masters and moments 12, teacher 2 + 4 bytes a parameter; over ten ranks what is sharded.
    assert [state_bytes(TOY, stage, 1) for stage in (0, 1, 2)] == [22e6] * 3
    assert [state_bytes(TOY, stage, 10) for stage in (0, 1, 2)] == pytest.approx([18.4e6, 7.6e6, 5.8e6])


@given(jobs, st.sampled_from([0, 1, 2]), st.sampled_from(FABRICS))
def test_one_gpu_waits_for_nobody_and_more_wait_no_less(job, stage, fabric):
    waits = [sum(communication_ms(job, stage, n, fabric).values()) for n in GPUS]
    assert waits[0] == 0 and waits == sorted(waits)
    assert efficiency(job, stage, 1, fabric) == 1
    assert all(0 <= share_of_links(job, stage, n, fabric) < 1 for n in GPUS)
    memory = [state_bytes(job, stage, n) for n in GPUS]
    assert memory == sorted(memory, reverse=True)


@given(jobs, st.sampled_from(GPUS), st.sampled_from(FABRICS))
def test_the_fastest_stage_is_no_slower_than_any_that_fits(job, ranks, fabric):
    best = fastest_stage(job, ranks, fabric)
    assert best is not None
    assert all(step_ms(job, best, ranks, fabric) <= step_ms(job, s, ranks, fabric) + 1e-6 for s in (0, 1, 2))
    assert fastest_stage(job, ranks, fabric, memory_gb=0) is None
    tight = state_bytes(job, 2, ranks) / 1e9 * (1 + 1e-9)
    assert ranks == 1 or fastest_stage(job, ranks, fabric, memory_gb=tight) == 2


def test_where_communication_shows():
    assert first_that_shows(TOY, 0, Fabric("none", math.inf, math.inf, latency_us=0.0)) is None
    assert first_that_shows(TOY, 0, Fabric("hardly any", 0.01, 0.01)) == 2


def test_a_fixed_global_batch_divides_the_compute_and_leaves_the_update():
    """The update: 44 bytes of 1,000,000 parameters at 100 GB/s, .44 ms, whatever the batch."""
    part = at_global_batch(TOY, 64, 16)
    assert part.batch == 4 and part.compute_ms == pytest.approx((50 - 0.44) * 4 / 8 + 0.44)
    assert at_global_batch(TOY, 8, 1) == TOY


def test_the_last_product_of_a_gpu_still_takes_its_update_and_its_share_of_the_compute():
    """ViT-S at 3,000 products/s: 512 products on 512 GPUs. By hand, in ms, at 4,300 GB/s and without communication."""
    job = Job("x", batch=256, compute_ms=256 / 3.0, parameters=45_000_000)
    average, update = 45e6 * 14 / 4.3e9, 45e6 * 44 / 4.3e9
    a_product = (256 / 3.0 - update) / 256
    free = Fabric("free", math.inf, math.inf, latency_us=0.0)
    part = at_global_batch(job, 512, 512)
    # Stage 0: masters and moments whole, of the teacher a 512th. Stages 1 and 2: a 512th of everything.
    assert step_ms(part, 0, 512, free) == pytest.approx(a_product + update - average + average / 512)
    assert step_ms(part, 2, 512, free) == pytest.approx(a_product + update / 512)
    assert step_ms(at_global_batch(job, 512, 1), 0, 1, free) == pytest.approx(512 * a_product + update)


@given(jobs, st.sampled_from(GPUS), st.sampled_from([0, 1, 2]), st.sampled_from(FABRICS))
def test_no_step_of_a_fixed_global_batch_is_more_than_as_many_times_as_fast(job, ranks, stage, fabric):
    """But for what stages 1, 2 and the average save by sharing the update: never more than the ranks in all."""
    alone, part = at_global_batch(job, 4096, 1), at_global_batch(job, 4096, ranks)
    assert step_ms(part, stage, ranks, fabric) >= step_ms(alone, stage, 1, fabric) / ranks * (1 - 1e-9)


def test_the_step_is_a_record_where_a_gpu_has_one(tmp_path):
    from benchmarks.archive import read

    assert job_of([]).assumed and "assumed" in job_of([]).name
    job = job_of(read(write(tmp_path, gpu_rows())))
    assert (job.assumed, job.batch, job.compute_ms) == (False, 256, 120.0)
    assert "Made-up GPU" in job.name


def test_only_collectives_are_counted():
    with Traffic() as traffic:
        torch.ones(10) + 1
    assert not traffic.bytes and not traffic.calls


LONG = [(0, [1, 2], "fp32"), (1, [2], "bf16")] if os.environ.get("SKILL_FAST_LONG") == "1" else []


@pytest.mark.parametrize(("stage", "ranks", "precision"), [(0, [2], "bf16"), (2, [2], "fp32"), *LONG])
def test_what_real_steps_send_is_what_the_model_says(drawn, tmp_path, stage, ranks, precision):
    out = tmp_path / "records.jsonl"
    asked = ["--ranks", *map(str, ranks), "--stages", str(stage), "--precision", precision, "--data", str(drawn)]
    assert main([*asked, "--out", str(out), "--batch", "4", "--steps", "2", "--repeats", "1", "--", *TINY]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["settings"]["ranks"] for r in records] == ranks
    if ranks[0] == 1:
        # DeepSpeed reduces gradients over a group of one as well: called, and nothing travels. No gather is called.
        assert set(records[0]["bytes"]) <= {"all-reduce"}
        assert records[1]["efficiency"] == pytest.approx(records[1]["value"] / records[0]["value"] / 2)
    sent = records[-1]
    job = Job("real", 4, 1.0, sent["parameters"], sent["prototypes"], sent["element_bytes"])
    assert job.element_bytes == {"fp32": 4, "bf16": 2}[precision]
    for collective in ("all-reduce", "all-gather"):
        wanted = sum(size for (kind, _), size in payload_bytes(job, stage).items() if kind == collective)
        # Norms and flags; groups padded to a multiple of the ranks.
        assert wanted <= sent["bytes"][collective] <= wanted + 128
    assert set(sent["bytes"]) <= {"all-reduce", "all-gather"}
    assert ("all-reduce", CENTER) in payload_bytes(job, stage)


def test_bad_usage(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "x"), "--ranks", "0"])
    assert "--ranks: '0' can not be carried out; allowed: a whole number, 1 or more" in capsys.readouterr().err


def test_a_rank_that_fails_is_told(drawn, tmp_path, capsys):
    asked = ["--out", str(tmp_path / "x"), "--ranks", "1", "--stages", "0", "--data", str(tmp_path)]
    assert main(asked) == 1
    assert "1 ranks, ZeRO 0: ended with" in capsys.readouterr().err
    told = json.loads((tmp_path / "x").read_text())["can_not"]
    assert re.fullmatch(rf"1 ranks, ZeRO 0: ended with 1: error: .*{tmp_path}.*", told), told


LAUNCHER = """Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
  exitcode  : -9 (pid: 77)
"""
TRACEBACK = """W1 some warning of an Error that was none
[rank1]: Traceback (most recent call last):
[rank1]:   File "ranks.py", line 1, in <module>
[rank1]:     raise ValueError("a: b")
[rank1]: ValueError: a: b
"""


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (TRACEBACK, "ValueError: a: b"),
        ("error: no shards\n" + TRACEBACK, "error: no shards"),
        ("", "exitcode : -9 (pid: 77)"),
    ],
    ids=["traceback", "failure", "killed"],
)
def test_the_rank_s_own_error_is_told_and_not_the_launcher_s(before, wanted):
    assert scaling.why_it_ended(before + LAUNCHER) == wanted
    assert scaling.why_it_ended("") == "no message"


def ranks_found(step_ms: float) -> dict:
    return {"steps_ms": [step_ms], **{name: 0 for name in scaling.NAMES}}


def test_records_come_after_each_measurement_ratios_within_a_round_and_none_begins_late(tmp_path, monkeypatch, capsys):
    """At ZeRO 0 one rank takes 10 and 20 ms a step, two take 20 and 25; two at ZeRO 2 fail."""
    out, there = tmp_path / "r.jsonl", []
    times_ms = {(0, 1): iter([10.0, 20.0]), (0, 2): iter([20.0, 25.0]), (2, 1): iter([10.0, 10.0])}

    def measure(job, options):
        there.append(len(out.read_text().splitlines()) if out.exists() else 0)
        if (job.stage, job.ranks) == (2, 2):
            return {"can_not": "no memory"}
        found = ranks_found(next(times_ms[job.stage, job.ranks]))
        return found | {"products_per_s": scaling.rate(found, job.ranks, options.batch)}

    monkeypatch.setattr(scaling, "measure", measure)
    asked = ["--out", str(out), "--data", str(tmp_path), "--ranks", "1", "2", "--stages", "0", "2", "--batch", "4"]
    assert main([*asked, "--repeats", "2"]) == 1
    assert "1 of 4 could not run: no memory" in capsys.readouterr().err
    assert there == [0, 1, 2, 3, 4, 4, 4]
    one, two, alone, failed = map(json.loads, out.read_text().splitlines())
    assert (two["by_round"], two["ratio"], two["ratio_rounds"]) == ([400.0, 320.0], pytest.approx(1.3), 2)
    assert two["efficiency"] == pytest.approx(0.65) and one["efficiency"] == 1.0 == alone["ratio"]
    assert failed["value"] is None and failed["can_not"] == "no memory"
    assert main([*asked, "--budget-s", "1e-9"]) == 0
    assert all("not begun" in json.loads(line)["can_not"] for line in out.read_text().splitlines())


def test_ranks_that_hang_are_ended_with_the_launcher(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "TIMEOUT_S", 1)
    ended = []
    monkeypatch.setattr(scaling, "end", lambda process: ended.append(process.pid) or end(process))
    asked = ["--out", str(tmp_path / "x"), "--ranks", "1", "--stages", "0", "--repeats", "1", "--data", str(drawn)]
    assert main(asked) == 1
    assert "no figure within 1 s" in capsys.readouterr().err and len(ended) == 1
