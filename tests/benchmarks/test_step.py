"""The benchmark of the step: what it counts, its rows, its gate, and one row for real."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.step import LEVERS, _gated, rows
from benchmarks.step_row import PHASES, Row, products_flops
from skill_fast.presets import PRESETS

ROOT = Path(__file__).parents[2]


def test_operations_of_a_product_are_those_of_the_formula():
    """A ViT by hand: 24 N d^2 + 4 N^2 d a block and sample, patches, the head; teacher once, student three times."""
    config = PRESETS["skill_vit_small"]
    d, patch, depth = 384, 16, 12

    def forward(side: int) -> float:
        tokens = (side // patch) ** 2 + 1
        blocks = depth * (24 * tokens * d**2 + 4 * tokens**2 * d)
        return blocks + 2 * (tokens - 1) * d * 3 * patch**2

    head = 2 * (384 * 2048 + 2048 * 2048 + 2048 * 256 + 256 * 65536)
    teacher, student = 2 * (forward(224) + head), 2 * forward(224) + 8 * forward(96) + 10 * head
    assert products_flops(config) == pytest.approx(teacher + 3 * student, rel=1e-3)


def options(**given):
    return Namespace(**({"preset": None, "batch": [256, 64], "rows": None} | given))


def test_rows_are_levers_then_stages_then_batches():
    names = [row.name for row in rows(options(), on_gpu=True)]
    assert names == [*LEVERS, "ZeRO 0", "ZeRO 2", "batch 64", "ViT-B/16"]
    assert [row.name for row in rows(options(rows=["packed"]), on_gpu=False)] == ["packed"]


def test_a_lever_that_changes_the_loss_does_not_count():
    row, base = Row("packed", "demo", 4, 0, "fp32"), {"first_loss": 5.0}
    assert "can_not" in _gated(row, {"first_loss": 5.01}, base)
    assert _gated(row, {"first_loss": 5.0001}, base) == {"first_loss": 5.0001}
    assert _gated(Row("drop path by subset", "demo", 4, 0, "fp32"), {"first_loss": 6.0}, base) == {"first_loss": 6.0}


def test_a_row_for_real(tmp_path):
    out = tmp_path / "records.jsonl"
    command = [sys.executable, "-m", "benchmarks.step", "--rows", "base", "--batch", "4", "--seconds", "0.1"]
    subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    [record] = [json.loads(line) for line in out.read_text().splitlines()]
    assert record["what"] == "step/base" and record["value"] > 0 and record["unit"] == "ms"
    assert list(record["phases_ms"]) == list(PHASES) and min(record["phases_ms"].values()) > 0
    assert record["products_per_s"] == pytest.approx(4 / record["value"] * 1e3)
    assert record["mfu"] is None and record["attention"] == {"global": "plain", "local": "plain"}
