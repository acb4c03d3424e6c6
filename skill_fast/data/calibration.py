"""A short calibration: DALI threads, prefetch and the hardware decoder's share for this machine and data set."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from skill_fast.cache_folder import cache_folder
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.views import ViewGroup
from skill_fast.telemetry.provenance import cpu_model, fingerprint, versions

ENOUGH = 0.97
"""Of the fastest candidate's rate: the first one that comes as close is taken, so that noise does not choose."""
LEAST_S, LEAST_BATCHES = 0.5, 4
THREADS = (2, 4, 6, 8, 12, 16)
HW_DECODER_LOADS = (0.65, 0.5, 0.8, 0.9, 0.0)
PREFETCHES = (2, 3, 4)
Agree = Callable[[float], float]


@dataclass(frozen=True)
class Calibration:
    """The settings that were chosen, and every rate that was measured on the way."""

    config: LoaderConfig
    rates: tuple[tuple[str, Any, float], ...]
    """(setting, value, products/s); empty where nothing had to be measured."""
    cached: bool = False

    def __str__(self) -> str:
        c = self.config
        text = f"loader: {c.threads} threads, prefetch {c.prefetch}, hw_decoder_load {c.hw_decoder_load}"
        if not self.rates:
            return text
        tried: dict[str, list[str]] = {name: [] for name, _, _ in self.rates}
        for name, value, rate in self.rates:
            tried[name].append(f"{value:g}: {rate:,.0f}")
        measured = "; ".join(f"{name} {', '.join(values)}" for name, values in tried.items())
        return f"{text} (calibrated{', from the cache' * self.cached}; products/s by {measured})"


def calibrated(
    index: CatalogueIndex,
    views: Sequence[ViewGroup],
    config: LoaderConfig,
    *,
    agree: Agree = float,
    cores: int | None = None,
    **loader_options: Any,
) -> Calibration:
    """Fill in what ``config`` leaves open of threads, prefetch and hw_decoder_load.

    ::

        for each setting that is open: threads, then hw_decoder_load (GPU), then prefetch:
            measure the loader alone with each candidate, the others as they stand
            take the first within 3 % of the fastest

    On a CPU, where the model wants the same cores and a loader alone would say nothing, and with ``calibrate="off"``,
    what is open takes plain values: one thread a core, prefetch 2. ``"on"`` measures there too. What was measured is
    kept in the cache folder for the same machine, versions, data set, views and batch.

    agree: a rank's number -> the same number on all ranks (their least): every rank measures at the same time, as it
    will train, and all choose alike. cores: of this rank. loader_options: ``Loader``'s: global_batch, rank, device ...
    """
    cores = cores or len(os.sched_getaffinity(0))
    device = torch.device(loader_options.get("device", "cpu"))
    by_rule = replace(config, threads=config.threads or cores).settled()
    wanted = config.calibrate == "on" or (config.calibrate == "auto" and device.type == "cuda")
    candidates = _candidates(config, cores, device) if wanted else {}
    if not candidates:
        return Calibration(by_rule, ())
    key = _key(index, views, config, cores, device, loader_options)
    file = cache_folder() / "calibration" / f"{key[:32]}.json"
    known = _read(file, by_rule, candidates)
    if agree(0.0 if known is None else 1.0) and known is not None:
        return known

    def rate(tried: LoaderConfig) -> float:
        return agree(_products_per_s(index, views, tried, **loader_options))

    chosen, rates = _search(by_rule, candidates, rate)
    _write(file, {"chosen": {name: getattr(chosen, name) for name in candidates}, "rates": rates})
    return Calibration(chosen, tuple(rates))


def _candidates(config: LoaderConfig, cores: int, device: torch.device) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    if config.threads is None:
        found["threads"] = tuple(sorted({min(n, cores) for n in THREADS}))
    if config.hw_decoder_load is None and device.type == "cuda":
        found["hw_decoder_load"] = HW_DECODER_LOADS
    if config.prefetch is None:
        found["prefetch"] = PREFETCHES
    return found


def _search(
    start: LoaderConfig, candidates: dict[str, tuple[Any, ...]], rate: Callable[[LoaderConfig], float]
) -> tuple[LoaderConfig, list[tuple[str, Any, float]]]:
    rates: list[tuple[str, Any, float]] = []
    for name, values in candidates.items():
        tried = [(value, rate(replace(start, **{name: value}))) for value in values]
        enough = ENOUGH * max(speed for _, speed in tried)
        start = replace(start, **{name: next(value for value, speed in tried if speed >= enough)})
        rates += [(name, value, speed) for value, speed in tried]
    return start, rates


def _products_per_s(
    index: CatalogueIndex, views: Sequence[ViewGroup], config: LoaderConfig, **loader_options: Any
) -> float:
    """Of a loader that nothing waits for, once its pipeline is full."""
    with Loader(index, views, config=config, **loader_options) as loader:
        for _ in range(2 * config.settings()[1] + 1):
            next(loader)
        products, start = 0, time.perf_counter()
        for count in range(1, 1 << 20):
            products += len(next(loader).positions)
            seconds = time.perf_counter() - start
            if count >= LEAST_BATCHES and seconds >= LEAST_S:
                break
    return products / seconds


def _key(
    index: CatalogueIndex, views: Sequence[ViewGroup], config: LoaderConfig, cores: int, device: torch.device,
    loader_options: dict[str, Any],
) -> str:  # fmt: skip
    numbers = ("global_batch", "world_size", "micro_steps")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return fingerprint(
        {
            "machine": [cpu_model(), cores, gpu],
            "versions": versions(),
            "data": index.fingerprint,
            "views": [repr(group) for group in views],
            "config": repr(config),
            "batch": {name: loader_options.get(name, 1) for name in numbers},
        }
    )


def _read(file: Path, by_rule: LoaderConfig, candidates: dict[str, tuple[Any, ...]]) -> Calibration | None:
    """What an earlier calibration chose; None where there is none that can be read: it is measured again."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        chosen = {name: kept["chosen"][name] for name in candidates}
        rates = tuple((str(name), float(value), float(rate)) for name, value, rate in kept["rates"])
        if any(chosen[name] not in values for name, values in candidates.items()):
            return None
        return Calibration(replace(by_rule, **chosen), rates, cached=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, content: dict[str, Any]) -> None:
    """A cache that can not be written costs the next start its seconds, no more."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, file)
    except OSError:
        return
