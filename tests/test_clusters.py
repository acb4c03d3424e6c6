"""docs/clusters: two launchers as two nodes, on loopback, by hostfile and by the SLURM script with stand-ins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from deepspeed.launcher.runner import fetch_hostfile
from safetensors.torch import load_file

from tests.conftest import ROOT, TINY
from tests.engine.launch import free_port

EXAMPLES = ROOT / "docs" / "clusters"
STEPS = ("--steps", "3")
SCONTROL = '#!/bin/sh\nprintf "localhost\\n127.0.0.1\\n"\n'
SRUN = """#!/usr/bin/env bash
# One task a node, as srun starts them, both here.
shift
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $first && wait $second
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


@pytest.mark.skipif(not os.environ.get("SKILL_FAST_LONG"), reason="SKILL_FAST_LONG=1: the script below starts the same")
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


def test_slurm_script_with_stand_ins_trains_what_one_launcher_does(trainer, one_launcher, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"scontrol": SCONTROL, "srun": SRUN}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    out = tmp_path / "run with a space"
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "x[1-2]", "GPUS_A_NODE": "1", "MASTER_ADDR": "127.0.0.1"}
    allocation |= {"MASTER_PORT": str(free_port()), "HOSTFILE": str(tmp_path / "hostfile")}
    path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    arguments = ["--ds_config", "ds_configs/zero2.json", "--data", str(trainer.data), "--out", str(out), *TINY, *STEPS]
    done = subprocess.run(
        ["bash", str(EXAMPLES / "train.sbatch"), *arguments],
        env=trainer.environment(1) | allocation | {"PATH": path, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "hostfile").read_text() == "localhost slots=1\n127.0.0.1 slots=1\n"
    assert same_teacher(out, one_launcher)
