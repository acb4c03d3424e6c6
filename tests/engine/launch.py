"""Start a worker script as one process a rank, as torchrun would, and wait for all of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(rank: int = 0, world_size: int = 1, port: int = 0, gpu: bool = False) -> dict[str, str]:
    """World 1 gets no launcher's variables at all: started by plain python. Without ``gpu`` none is seen."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    kept |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if not gpu:
        kept |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    if world_size > 1:
        kept |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
        kept |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return kept


def launch(
    script: str, world_size: int, *arguments: str, timeout_s: float = 300, gpu: bool = False
) -> list[subprocess.CompletedProcess]:
    """Every rank's exit code and output; raises on a timeout, after ending what is left."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    ranks = [
        subprocess.Popen(
            command,
            env=environment(rank, world_size, port, gpu),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=timeout_s)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    return [subprocess.CompletedProcess(command, p.returncode, text) for p, text in zip(ranks, outputs)]
