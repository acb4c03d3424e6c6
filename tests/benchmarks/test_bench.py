"""``make bench``: commands that their benchmarks accept, a budget that is kept, nothing left running."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from benchmarks.bench import Row, carry_out, in_time, main, plan
from tests.conftest import ROOT

WRITES = "import sys, json; open(sys.argv[1], 'w').write(json.dumps({'what': 'a/b', 'value': 1.0}) + '\\n'); "


class Accepted(Exception):
    """The benchmark's parser took its arguments."""


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_every_command_is_one_that_its_benchmark_accepts(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    parse = argparse.ArgumentParser.parse_args

    def accept(self, arguments=None, namespace=None):
        raise Accepted(parse(self, arguments, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", accept)
    for row in plan(gpu):
        module, *arguments = row.command(tmp_path, tmp_path / "out.jsonl", 60.0)[2:]
        with pytest.raises(Accepted) as found:
            importlib.import_module(module).main(arguments)
        taken = found.value.args[0]
        assert taken.out == tmp_path / "out.jsonl", row.name
        if row.name not in ("kernels", "step", "shards"):  # which need no photographs, or draw their own
            assert Path(taken.data) == tmp_path, row.name
        if row.name not in ("arrangements", "feeding"):
            assert taken.budget_s == 60.0, row.name


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_the_training_comes_first_and_the_least_times_fit(gpu):
    rows = plan(gpu)
    assert rows[0].name == "train"
    assert len({row.name for row in rows}) == len(rows)
    assert sum(row.least_s for row in rows[:4]) < 480


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_the_first_rows_are_begun_though_all_before_take_their_whole_share(gpu):
    """Of the usual budget and of ten minutes; the step and the kernels are among them."""
    rows = [
        row for row, sum_of_shares in zip(plan(gpu), accumulate(r.share for r in plan(gpu))) if sum_of_shares < 1.01
    ]
    assert {"train", "kernels", "step", "peers"} <= {row.name for row in rows}
    for budget_s in (480.0, 600.0):
        left_s = budget_s
        for row in rows:
            assert left_s >= row.least_s, row.name
            left_s -= max(row.share * budget_s, row.least_s)


def test_within_ten_minutes_the_rows_that_ratios_need_have_their_time_on_a_gpu():
    """The estimates of ``plan``: seconds of the base, ours and kornia, one behind the other, in what each has."""
    rows = {row.name: row for row in plan(True)}
    for name, taken_s in (("step", (60, 20, 60)), ("peers", (57, 70, 40)), ("loader", (20, 57, 40))):
        part_s = rows[name].share * 570
        assert sum(taken_s) <= part_s and sum(taken_s[:-1]) <= rows[name].begin * part_s, name
    assert sum(max(row.share * 570, row.least_s) for row in plan(True)[:5]) <= 600


def row(name: str, code: str, **about) -> Row:
    return Row(name, about.pop("share", 1.0), about.pop("least_s", 0.1), ("-c", code, "{out}"))


@pytest.fixture
def as_scripts(monkeypatch):
    """Rows whose "module" is a piece of Python."""
    monkeypatch.setattr(Row, "command", lambda self, data, out, left_s: [sys.executable, *self.arguments[:2], str(out)])


def test_a_row_over_its_time_is_stopped_and_keeps_what_it_wrote(tmp_path, as_scripts):
    rows = [row("slow", WRITES + "import time; time.sleep(60)", share=0.15), row("next", WRITES)]
    began = time.monotonic()
    became = carry_out(rows, tmp_path, tmp_path, 20.0)
    assert became == {"slow": "stopped: its time was over, 1 records", "next": "done, 1 records"}
    assert time.monotonic() - began < 20


def test_records_that_only_say_why_are_told_from_figures(tmp_path, as_scripts):
    lost = WRITES + """open(sys.argv[1], 'a').write('{"what": "a/c", "value": null, "can_not": "no tar"}\\n')"""
    became = carry_out([row("half", lost), row("next", WRITES)], tmp_path, tmp_path, 60.0)
    assert became == {"half": "done, 2 records, 1 of them without a figure", "next": "done, 1 records"}


def test_half_a_line_is_told_and_the_next_row_runs(tmp_path, as_scripts):
    halved = WRITES + """open(sys.argv[1], 'a').write('{"what": "a/c", "val')"""
    became = carry_out([row("cut", halved), row("next", WRITES)], tmp_path, tmp_path, 60.0)
    assert became["next"] == "done, 1 records"
    assert became["cut"].startswith(
        f"done, 1 records; 1 damaged lines left out, the first: {tmp_path}/cut.jsonl:2: not"
    )


def test_a_row_that_no_longer_fits_is_not_begun(tmp_path, as_scripts):
    became = carry_out([row("late", WRITES, least_s=99.0)], tmp_path, tmp_path, 5.0)
    assert became["late"].startswith("not begun: ")
    assert not (tmp_path / "late.jsonl").exists()


def test_stopped_with_all_its_children_even_those_that_ignore_it(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.bench.CLOSING_S", 0.5)
    child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    parent = f"import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
p = subprocess.Popen([sys.executable, '-c', {child!r}]); open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(60)"
    assert in_time([sys.executable, "-c", parent, str(tmp_path / "pid")], 2.0) is None
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not running(pid):
            break
        time.sleep(0.1)
    assert not running(pid)


IN_A_SESSION_OF_ITS_OWN = """
import subprocess, sys, time
code = "import signal, time; IGNORES and signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
p = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
open(sys.argv[1] + "~", "w").write(str(p.pid))
__import__("os").rename(sys.argv[1] + "~", sys.argv[1])
time.sleep(120)
"""
"""As torchrun starts its ranks."""


@pytest.mark.parametrize("ignores", [False, True])
def test_ctrl_c_ends_children_in_sessions_of_their_own(ignores, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.bench.CLOSING_S", 1.0)
    code, told = IN_A_SESSION_OF_ITS_OWN.replace("IGNORES", str(ignores)), tmp_path / "pid"
    pids = []

    def ctrl_c() -> None:
        while not told.exists():
            time.sleep(0.1)
        pids.append(int(told.read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ctrl_c, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            in_time([sys.executable, "-c", code, str(told)], 100.0)
        assert not running(pids[0])
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def running(pid: int) -> bool:
    """A zombie that nobody has waited for runs no more."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_of_a_row_is_told_and_the_next_one_runs(tmp_path, as_scripts, monkeypatch, capsys):
    rows = [row("broken", "raise SystemExit(3)"), row("good", WRITES)]
    monkeypatch.setattr("benchmarks.bench.plan", lambda gpu: rows)
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--budget-s", "60"]) == 1
    told = capsys.readouterr()
    assert "exit code 3, 0 records" in told.out and "done, 1 records" in told.out
    assert "broken ended with an error" in told.err


def test_one_real_row_of_this_machine(drawn, tmp_path):
    out = tmp_path / "out"
    assert main(["--rows", "kernels", "--data", str(drawn), "--out", str(out), "--budget-s", "200"]) == 0
    records = [json.loads(line) for line in (out / "kernels.jsonl").read_text().splitlines()]
    assert {"kernels/copy", "kernels/ema/reference"} <= {record["what"] for record in records}


def test_bad_usage_and_the_list(capsys):
    assert main(["--rows", "nonsense"]) == 2
    assert main(["--budget-s", "0"]) == 2
    assert "allowed: " in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.startswith("train ")


def test_make_bench_takes_its_budget():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "BUDGET_S ?= 480" in text and "--budget-s $(BUDGET_S)" in text
