"""docs/clusters: two nodes on loopback, by hostfile with a launcher each, and by the SLURM script with stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from deepspeed.launcher.runner import fetch_hostfile, parse_args
from safetensors.torch import load_file

from tests.conftest import ROOT, TINY
from tests.engine.launch import free_port
from tests.test_train import wait_for_step

EXAMPLES = ROOT / "docs" / "clusters"
STEPS = ("--steps", "3")
SCONTROL = """#!/bin/sh
case $1 in
  show) printf "localhost\\n127.0.0.1\\n" ;;
  *) echo "$@" >> "$ASKED" ;;
esac
"""
SRUN = """#!/usr/bin/env bash
# Two nodes of one task each, both here; each task with a process group of its own, which SLURM signals as a whole.
# Ends with the highest of their codes.
while [[ $1 == -* ]]; do shift; done
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=0 SLURM_NODEID=$task SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1 setsid "$@" &
  tasks+=($!)
done
echo "${tasks[@]}" > "$TASKS"
highest=0
for task in "${tasks[@]}"; do
  wait "$task"; code=$?
  (( code > highest )) && highest=$code
done
exit $highest
"""


@pytest.fixture(scope="module")
def one_launcher(trainer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    trainer.run(out, *STEPS, ranks=2)
    return out


def same_teacher(a: Path, b: Path) -> bool:
    mine, theirs = load_file(a / "teacher.safetensors"), load_file(b / "teacher.safetensors")
    return mine.keys() == theirs.keys() and all((mine[name] == theirs[name]).all() for name in mine)


def test_hostfile_is_one_that_deepspeed_reads():
    assert dict(fetch_hostfile(str(EXAMPLES / "hostfile"))) == {"node-1": 8, "node-2": 8}


def test_the_page_names_the_program_that_deepspeed_reaches_nodes_with():
    """The launcher of the page's first command, as DeepSpeed has it by default, and what it looks for."""
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8").partition("Without ssh")[0]
    words = page.partition("\ndeepspeed ")[2].partition("\n```")[0].split()
    assert f"has `{parse_args(words).launcher}`" in page


@pytest.mark.skipif(os.environ.get("SKILL_FAST_LONG") != "1", reason="SKILL_FAST_LONG=1; the script below starts it")
def test_two_launchers_by_hostfile_train_what_one_does(trainer, one_launcher, tmp_path):
    hostfile, out, port = tmp_path / "hostfile", tmp_path / "run", str(free_port())
    hostfile.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    launchers = []
    for node in ("0", "1"):
        how = ["--hostfile", str(hostfile), "--no_ssh", "--node_rank", node]
        how += ["--master_addr", "127.0.0.1", "--master_port", port]
        deepspeed = [sys.executable, str(Path(sys.executable).with_name("deepspeed"))]
        command = [*deepspeed, *how, *trainer.command(out, *STEPS)[1:]]
        with (tmp_path / f"{node}.log").open("w") as log:
            process = subprocess.Popen(command, env=trainer.environment(1), stdout=log, stderr=subprocess.STDOUT)
        launchers.append(process)
    try:
        codes = [process.wait(timeout=240) for process in launchers]
    finally:
        for process in launchers:
            process.kill()
    assert codes == [0, 0], (tmp_path / "0.log").read_text() + (tmp_path / "1.log").read_text()
    assert same_teacher(out, one_launcher)


class Cluster:
    """train.sbatch, started as SLURM would; stand-ins for srun and scontrol, all else is real."""

    def __init__(self, trainer, folder: Path) -> None:
        self.trainer, self.tasks, self.asked = trainer, folder / "tasks", folder / "asked"
        programs = folder / "bin"
        programs.mkdir()
        for name, text in {"scontrol": SCONTROL, "srun": SRUN}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "x[1-2]", "SLURM_CPUS_PER_TASK": "1"}
        allocation |= {"MASTER_ADDR": "127.0.0.1", "ASKED": str(self.asked), "TASKS": str(self.tasks)}
        self.environment = trainer.environment(1) | allocation | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def start(self, out: Path, *options: str, ds_config: str = "zero2") -> subprocess.Popen:
        arguments = ["--ds_config", f"ds_configs/{ds_config}.json", "--data", str(self.trainer.data)]
        return subprocess.Popen(
            ["bash", str(EXAMPLES / "train.sbatch"), *arguments, "--out", str(out), *TINY, *options],
            env=self.environment | {"MASTER_PORT": str(free_port())},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, out: Path, *options: str, code: int = 0, **how) -> str:
        process = self.start(out, *options, **how)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    def signal(self, number: int) -> None:
        """To every process of every task, as SLURM does at --signal."""
        for task in self.tasks.read_text().split():
            with suppress(ProcessLookupError):
                os.killpg(int(task), number)

    def requeued(self) -> list[str]:
        return self.asked.read_text().splitlines() if self.asked.exists() else []


@pytest.fixture
def cluster(trainer, tmp_path):
    made = Cluster(trainer, tmp_path)
    yield made
    with suppress(OSError):
        made.signal(signal.SIGKILL)


def test_slurm_script_with_stand_ins_trains_what_one_launcher_does(cluster, one_launcher, tmp_path):
    out = tmp_path / "run with a space"
    cluster.run(out, *STEPS)
    assert same_teacher(out, one_launcher)
    assert not cluster.requeued()


def test_before_its_time_is_over_the_job_saves_is_requeued_and_goes_on(cluster, trainer, tmp_path):
    """USR1 in the middle; the same script again, as after a requeue: the course is that of a run nobody disturbed."""
    options = ("--steps", "60", "--checkpoint-every", "1000")
    trainer.run(tmp_path / "undisturbed", *options, ds_config="zero2_fp32", ranks=2)
    out = tmp_path / "run"
    process = cluster.start(out, *options, ds_config="zero2_fp32")
    wait_for_step(out, 3, process)
    cluster.signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 7, said
    assert cluster.requeued() == ["requeue 7"]
    ended = json.loads((out / "exit.json").read_text())
    assert ended["exit_code"] == 7 and 3 <= ended["step"] < 60
    assert f"steps {ended['step']} to 60" in cluster.run(out, *options, ds_config="zero2_fp32")
    assert cluster.requeued() == ["requeue 7"], "a run that is done asks for nothing"
    assert same_teacher(out, tmp_path / "undisturbed")


def test_a_job_that_fails_is_not_requeued(cluster, tmp_path):
    said = cluster.run(tmp_path / "run", "--steps", "bogus", code=2)
    assert "bogus" in said and not cluster.requeued()


def test_a_requeue_that_would_throw_the_run_away_is_refused(cluster, tmp_path):
    said = cluster.run(tmp_path / "run", *STEPS, "--fresh", code=2)
    assert "--fresh" in said and not cluster.tasks.exists()
