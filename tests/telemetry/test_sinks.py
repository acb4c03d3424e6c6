from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skill_fast.telemetry.clock import Clock
from skill_fast.telemetry.sinks import MetricsFile, ProgressLine, Sinks, TensorBoard, progress_text, truncate_after


@dataclass
class Values:
    lr: float = 0.1
    weight_decay: float = 0.04
    ema_momentum: float = 0.99


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, steps: range, resumed: int = 0) -> None:
    file = MetricsFile(path, resumed)
    for step in steps:
        file.write({"step": step, "loss": step / 3})
    file.close()


def test_after_a_resume_the_file_equals_an_unbroken_runs(tmp_path: Path) -> None:
    write(tmp_path / "whole", range(1, 13))
    write(tmp_path / "broken", range(1, 8))
    with (tmp_path / "broken").open("a") as file:
        file.write('{"step": 8, "lo')  # killed in the middle of a line
    write(tmp_path / "broken", range(6, 13), resumed=5)
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_fresh_run_starts_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path / "m", range(1, 4))
    write(tmp_path / "m", range(1, 2))
    assert [row["step"] for row in rows(tmp_path / "m")] == [1]
    truncate_after(tmp_path / "absent", 3)
    assert not (tmp_path / "absent").exists()


@given(logged=st.integers(0, 30), every=st.integers(1, 5), resumed=st.integers(0, 40), tail=st.binary(max_size=20))
def test_what_is_kept_is_a_prefix_up_to_the_resumed_step(
    tmp_path_factory: pytest.TempPathFactory, logged: int, every: int, resumed: int, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    write(path, range(every, logged + 1, every))
    with path.open("ab") as file:
        file.write(tail.replace(b"\n", b" "))
    truncate_after(path, resumed)
    assert [row["step"] for row in rows(path)] == [s for s in range(every, logged + 1, every) if s <= resumed]


def test_every_line_is_json_even_when_a_loss_is_not_a_number(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m")
    file.write({"step": 1, "loss": math.nan, "grad_norm": math.inf})
    assert rows(tmp_path / "m") == [{"step": 1, "loss": None, "grad_norm": None}]  # flushed before it is closed
    file.close()


def test_the_line_a_person_reads() -> None:
    row = {"step": 120, "loss": 5.2106, "teacher_entropy": 3.02, "products_per_s": 411.7}
    text = progress_text(row, 1380, 250.0, 0.031)
    assert text == "step  120/1380  loss 5.211  entropy 3.020  412 products/s  wait 3%  left 4:10"
    assert len(text) < 80


def test_without_a_terminal_a_line_now_and_then_and_always_the_last() -> None:
    stream = io.StringIO()
    line = ProgressLine(20, stream, every_s=3600)
    for step in range(1, 21):
        line.show({"step": step, "products_per_s": 1.0}, None, 0.0)
    line.close()
    assert [text[:10] for text in stream.getvalue().splitlines()] == ["step  1/20", "step 20/20"]


def test_on_a_terminal_one_line_is_updated() -> None:
    stream = Terminal()
    line = ProgressLine(3, stream)
    for step in (1, 2, 3):
        line.show({"step": step, "products_per_s": 1.0}, None, 0.0)
    line.close()
    assert "step 3/3" in stream.getvalue()
    assert stream.getvalue().count("\n") <= 2


def test_sinks_write_the_contracts_row(tmp_path: Path) -> None:
    clock, stream = Clock(), io.StringIO()
    sinks = Sinks(tmp_path, total_steps=10, steps_per_epoch=4, global_batch=8, stream=stream)
    for step in range(1, 11):
        with clock.step():
            clock.add("data_wait", 2.0)
        logged = {name: torch.tensor(float(step)) for name in ("loss", "teacher_entropy", "kl", "grad_norm")}
        sinks.log(step, Values(), logged, clock)
    sinks.close()
    found = rows(tmp_path / "metrics.jsonl")
    contract = "step epoch loss teacher_entropy kl lr weight_decay ema_momentum step_ms data_wait_ms products_per_s"
    assert set(found[0]) == {*contract.split(), "grad_norm"}
    assert [row["epoch"] for row in found] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert found[-1]["data_wait_ms"] == 2.0 and found[-1]["loss"] == 10.0 and found[-1]["products_per_s"] > 0
    assert "sync:metrics" in clock.names()
    assert "step 10/10" in stream.getvalue()


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sinks = Sinks(None, total_steps=2, steps_per_epoch=1, global_batch=8)
    assert sinks.log(1, Values(), {"loss": 1.0}, Clock())["loss"] == 1.0
    sinks.close()
    assert not list(tmp_path.iterdir())


def test_tensorboard_events_can_be_read_back(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for step in (1, 2):
        board.write({"step": step, "epoch": 0, "loss": 10.0 / step})
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 10.0), (2, 5.0)]


def test_tensorboard_has_an_evaluation_at_the_step_it_is_of(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.write({"step": 130, "loss": 1.0, "evaluation/step": 100.0, "evaluation/knn/type/accuracy": 0.5})
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["evaluation/knn/type/accuracy", "loss"]
    assert [(event.step, event.value) for event in events.Scalars("evaluation/knn/type/accuracy")] == [(100, 0.5)]
    assert [event.step for event in events.Scalars("loss")] == [130]
