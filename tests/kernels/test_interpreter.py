"""The tests of the fused kernels on a CPU: one process in which Triton interprets, for it decides so when imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_the_fused_kernels_pass_their_tests_in_tritons_interpreter():
    files = sorted(str(path) for path in HERE.glob("test_fused_*.py"))
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not gpu", "-p", "no:cacheprovider", *files],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(child.stdout[-20_000:], child.stderr[-5_000:])
    assert child.returncode == 0
    summary = child.stdout.splitlines()[-1]
    passed = re.search(r"(\d+) passed", summary)
    assert passed and int(passed[1]) > 100 and "skipped" not in summary
