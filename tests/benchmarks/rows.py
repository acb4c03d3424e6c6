"""Rows as the benchmarks of a GPU write them, with made-up figures: what the report must be able to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GPU = {"gpu": "Made-up GPU", "gpus": 1, "cpu": "Made-up CPU", "cores": 16, "commit": "a" * 40, "dirty": False}
FIRST, SECOND = "2030-01-01T00:00:00+00:00", "2030-01-02T00:00:00+00:00"
PHASES = {"rest": 1.5, "data": 2.0, "gather": 0.5, "loss": 4.0, "forward teacher": 20.0, "forward student": 30.0}
PHASES |= {"center": 1.0, "backward": 50.0, "optimizer": 9.0, "teacher": 7.0}
LOADER = {"threads": 8, "prefetch": 2, "hw_decoder_load": 0.65, "recipes": "by_type"}
SETTINGS = {"batch": 256, "precision": "bf16", "stage": 0, "compile": True, "backend": "fused"}


def train(name: str, value: float, date: str = SECOND, **changed: Any) -> dict[str, Any]:
    samples = [
        {"at_s": 100.0 + t, "sm_percent": 90 - t, "memory_percent": 50, "nvjpg_percent": None, "power_w": 600.0}
        for t in range(5)
    ]
    return {
        "what": f"train/{name}",
        "value": value,
        "unit": "products/s",
        "step_ms": {"p50": 120.0, "p99": 140.0},
        "data_wait_share": 0.01 if name.startswith("total") else 0.0,
        **({"phases_ms": PHASES} if name.startswith("total") else {}),
        "loader": LOADER,
        "mfu": 0.4,
        "peak_tflops": 989,
        "settings": SETTINGS | changed,
        "gpu_samples": samples,
        "date": date,
        **GPU,
    }


def gpu_rows() -> list[dict[str, Any]]:
    rows = [train("total", 2500.0, FIRST), train("total", 3000.0), train("compute only", 3100.0)]
    rows += [train("total, batch 128", 2400.0, batch=128), train("total, compile False", 1800.0, compile=False)]
    rows += [train("total, stage 2", 2900.0, stage=2)]
    about: dict[str, Any] = {"unit": "products/s", "date": SECOND, **GPU}
    rows += [
        {"what": "peers/ours", "value": 3000.0, "ratio": 6.0, "ratio_to": "original DINO recipe", **about},
        {
            "what": "peers/original DINO recipe",
            "value": 500.0,
            "ratio": 1.0,
            "ratio_to": "original DINO recipe",
            **about,
        },
        {"what": "peers/lightly", "value": None, "can_not": "exit code 1: no memory", **about},
        {"what": "loader/ours", "value": 9000.0, "quantiles": {"min": 8900.0, "max": 9100.0}, **about},
        {"what": "loader/ours, prefetch 3", "value": 9100.0, **about},
        {"what": "loader/ours, decode only", "value": 90_000.0, **about},
        {"what": "loader/torchvision + PIL DataLoader", "value": 800.0, **about},
        {"what": "feeding/thread/rate", "value": 11_000.0, **about},
        {"what": "feeding/process/rate", "value": 9_000.0, **about},
    ]
    base: dict[str, Any] = {"unit": "ms", "settings": {"name": "base"}, "date": SECOND, **GPU}
    rows += [{"what": "step/base", "value": 100.0, **base}, {"what": "step/packed", "value": 80.0, **base}]
    rows += [{"what": "step/batch 64", "value": 30.0, **base}]
    timed: dict[str, Any] = {"unit": "ms", "date": SECOND, **GPU}
    rows += [
        {"what": "kernels/copy", "value": 0.5, "gb_per_s": 4000.0, **timed},
        {"what": "kernels/ema/fused", "value": 0.2, "least_bytes": 630_000_000, "copy_gb_per_s": 3900.0, **timed},
        {"what": "kernels/ema/foreach", "value": 0.4, "least_bytes": 630_000_000, "copy_gb_per_s": 3900.0, **timed},
        {"what": "kernels/ema/loops", "value": 0.8, "least_bytes": 630_000_000, "copy_gb_per_s": 3900.0, **timed},
        {"what": "kernels/centering/fused", "value": 0.001, "least_bytes": 786_432, "copy_gb_per_s": 700.0, **timed},
    ]
    return rows


def write(folder: Path, rows: list[dict[str, Any]], name: str = "2030-01-02-all-gpu.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder
