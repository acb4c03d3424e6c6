"""Evaluation beside a run: its figures, its failures, and that it neither holds the run up nor outlives it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from skill_fast import train
from skill_fast.data.cache_config import CacheConfig
from skill_fast.evaluate import background as module
from skill_fast.evaluate.background import BackgroundEvaluation, EvaluationEvery
from skill_fast.evaluate.products import select_products
from skill_fast.evaluate.suite import evaluate
from skill_fast.models.encoder import describe, load_encoder
from skill_fast.models.vit import build_backbone
from tests.conftest import metrics
from tests.evaluate.conftest import TINY

PATIENCE_S = 150.0
"""Far more than it takes; the evaluating process gives way to whatever else runs."""


def teacher(demo_index):
    """Weights as a teacher's whole state has them, and model.json's content."""
    weights = build_backbone(TINY, drop_path=0.0, seed=99).state_dict()
    about = describe(TINY, method="skill", step=100, seed=5, dataset=demo_index.fingerprint)
    return {f"backbone.{name}": weight for name, weight in weights.items()} | {"head.w": weights["norm.weight"]}, about


@pytest.fixture(autouse=True)
def not_nice(monkeypatch):
    """Evaluations that this process starts itself give way to nobody: the tests wait for them."""
    monkeypatch.setattr(module, "START", module.START.replace("os.nice(10)", "os.nice(0)"))


def background(run, data, tasks=("knn",), products=30):
    return BackgroundEvaluation(run, str(data), tasks=tasks, products=products, cache=CacheConfig())


def wait(evaluation):
    deadline = time.monotonic() + PATIENCE_S
    while evaluation.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def evaluating(folder):
    """Processes whose command line names a snapshot in this folder -> their niceness."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if "skill_fast.evaluate.background" in words and str(folder) in words:
                    found[int(entry.name)] = os.getpriority(os.PRIO_PROCESS, int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_figures_are_those_of_skill_eval(tmp_path, run, demo, demo_index, capsys):
    evaluation, (weights, about) = background(tmp_path, demo), teacher(demo_index)
    started = time.monotonic()
    evaluation.start(100, weights, about)
    assert evaluation.finished() == {}
    assert time.monotonic() - started < 1, "the caller does not wait"
    evaluation.start(110, weights, about)  # due while the first one runs: it falls out
    evaluation.start(120, weights, about)
    assert capsys.readouterr().err == "step 110: not evaluated, that of step 100 still runs\n"
    wait(evaluation)
    figures = evaluation.finished()
    assert evaluation.finished() == {}, "once"
    assert figures.pop("evaluation/step") == 100
    wanted = evaluate({"trained": load_encoder(run)}, demo_index, ["knn"], at_most=30, device="cpu", threads=1)
    scores = wanted["rows"]["trained"]
    assert figures["evaluation/knn/pattern/accuracy"] == pytest.approx(scores["knn/pattern/accuracy"], abs=1e-6)
    assert "evaluation/knn/pattern/queries" not in figures
    assert json.loads((tmp_path / "evaluations" / "step-000100.json").read_text())["step"] == 100
    assert [path.name for path in (tmp_path / "evaluations").iterdir()] == ["step-000100.json"]
    assert capsys.readouterr().err == ""
    evaluation.close()


def test_a_failed_evaluation_is_a_line(tmp_path, demo_index, capsys):
    evaluation = background(tmp_path, tmp_path / "nowhere")
    evaluation.start(100, *teacher(demo_index))
    wait(evaluation)
    assert evaluation.finished() == {}
    said = capsys.readouterr().err
    assert said.startswith("warning: the evaluation of step 100 failed: error: ") and "exit code 3" in said
    assert said.count("\n") == 1 and "nowhere" in (tmp_path / "evaluations" / "step-000100.log").read_text()
    assert evaluation.finished() == {} and capsys.readouterr().err == ""
    evaluation.close()


def test_a_disk_that_refuses_is_a_line(tmp_path, demo, demo_index, capsys):
    (tmp_path / "evaluations").write_text("a file where the folder should be")
    evaluation = background(tmp_path, demo)
    evaluation.start(100, *teacher(demo_index))
    wait(evaluation)
    assert evaluation.finished() == {}
    assert "the evaluation of step 100 failed" in capsys.readouterr().err
    evaluation.close()


def test_closing_ends_what_runs(tmp_path, demo, demo_index, capsys):
    evaluation = background(tmp_path, demo)
    evaluation.start(100, *teacher(demo_index))
    while not evaluating(tmp_path):
        assert evaluation.running
        time.sleep(0.02)
    evaluation.close()
    assert not evaluating(tmp_path) and not evaluation.running
    assert "step 100 was still running" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "evaluations").iterdir()] == ["step-000100.log"]


def test_every_so_many_steps_at_logged_ones_and_on_every_rank():
    asked, started = [], []

    class Recorded:
        def finished(self):
            return {"evaluation/step": 1.0}

        def start(self, step, weights, about):
            started.append((step, weights, about))

        def close(self):
            started.append("closed")

    for evaluation in (Recorded(), None):
        look = EvaluationEvery(
            evaluation,
            every=25,
            log_every=10,
            weights=lambda: asked.append(1) or {"w": 1},
            about=lambda step: {"step": step},
        )
        figures = [look(step) for step in range(10, 101, 10)]
        look.close()
        assert figures == [{"evaluation/step": 1.0} if evaluation else {}] * 10
    assert started == [*((step, {"w": 1}, {"step": step}) for step in (30, 50, 80, 100)), "closed"]
    assert len(asked) == 8, "the ranks gather the teacher together"


@pytest.mark.parametrize("at_most", [1, 10, 27, 500])
def test_products_are_drawn_by_whole_groups(demo_index, at_most):
    whole, some = select_products(demo_index), select_products(demo_index, at_most=at_most)
    for side in ("queries", "bank"):
        places, all_places = getattr(some, side), getattr(whole, side)
        groups = some.groups[places].tolist()
        everyone = whole.groups[all_places].tolist()
        assert all(everyone.count(name) == groups.count(name) for name in set(groups))
        assert len(set(groups)) == 1 or len(places) <= at_most
        if at_most == 500:
            assert len(places) == len(all_places)
    assert ("drawn" in some.protocol) == (at_most < 500)


def test_a_run_goes_on_logs_its_evaluation_and_takes_it_along(trainer, tmp_path):
    out = tmp_path / "run"
    what = ("--steps", "100000", "--evaluate-every", "20", "--evaluate-products", "40", "--checkpoint-every", "100000")
    process = trainer.start(out, *what)

    def until(seen):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := seen()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def rows():
        try:
            return metrics(out)
        except (FileNotFoundError, ValueError):  # not begun, or half a line
            return []

    evaluator = until(lambda: evaluating(out))
    steps = len(rows())
    until(lambda: len(rows()) > steps + 5)
    assert evaluating(out).keys() == evaluator.keys(), "steps go on while it runs"
    niceness = os.getpriority(os.PRIO_PROCESS, process.pid)
    until(lambda: set(evaluating(out).values()) == {min(19, niceness + 10)})
    process.send_signal(signal.SIGSTOP)  # the low priority would make this test wait on a full machine
    until(lambda: not evaluating(out))
    process.send_signal(signal.SIGCONT)
    [first] = until(lambda: [row for row in rows() if "evaluation/step" in row][:1])
    assert first["evaluation/step"] == 20 and first["step"] > 25
    assert 0 <= first["evaluation/knn/pattern/accuracy"] <= 1
    assert 0 <= first["evaluation/retrieval/same_product/recall@1"] <= 1
    assert json.loads((out / "evaluations" / "step-000020.json").read_text())["step"] == 20

    until(lambda: evaluating(out))  # the next one
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while evaluating(out):
        assert time.monotonic() < deadline, "it outlives the run"
        time.sleep(0.05)


def test_unknown_tasks_are_refused_before_the_run(tmp_path, capsys):
    assert train.main(["--out", str(tmp_path / "run"), "--evaluate-every", "5", "--evaluate-tasks", "knn,taste"]) == 2
    said = capsys.readouterr().err
    assert "--evaluate-tasks" in said and "'taste'" in said
    assert not (tmp_path / "run").exists()
