"""Everything that this machine can measure within a budget, most important first; ``make bench``.

    python -m benchmarks.bench [--budget-s 480] [--data SHARDS] [--out FOLDER] [--list]

Each benchmark is a process of its own and writes its records as they come, so that what a budget or a Ctrl-C cuts off
leaves what was measured. A benchmark that ends with an error is named at the end, and the exit code is 1. On a machine
without a GPU the CPU's rows run. Afterwards ``python -m benchmarks.report --records FOLDER`` draws what came.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.archive import read
from benchmarks.catalogues import drawn_photographs
from benchmarks.processes import CLOSING_S, end
from shards.build import build
from shards.errors import BadUsage, Failure, exit_with
from skill_fast.cache_folder import cache_folder

PHOTOGRAPHS = 96
DATA, OUT, LEFT_S = "{data}", "{out}", "{left_s}"


@dataclass(frozen=True)
class Row:
    """One benchmark: at most ``share`` of the whole budget, and not begun with less than ``least_s`` left."""

    name: str
    share: float
    least_s: float
    arguments: tuple[str, ...]
    begin: float = 0.7
    """Of its seconds: after them no further measurement of it begins."""

    def command(self, data: Path, out: Path, left_s: float) -> list[str]:
        given = {DATA: str(data), OUT: str(out), LEFT_S: f"{left_s:.0f}"}
        return [sys.executable, "-m", *(given.get(argument, argument) for argument in self.arguments)]


def plan(gpu: bool) -> list[Row]:
    """What to measure, most important first.

    Budgets are given in seconds from which no further measurement starts; the last one then takes its own time, and
    what exceeds a row's share is stopped. The shares of the first rows add up to the whole, so that each of them is
    begun; the others get what those left.
    """
    whole = ("--data", DATA, "--out", OUT, "--budget-s", LEFT_S)
    alone = ("--out", OUT, "--budget-s", LEFT_S)
    shards = ("benchmarks.shards", "--images", "100", "--repeats", "1", "--memory", *alone)
    once = ("--repeats", "1", "--seconds")
    scaling = ("--stages", "0", "2", "--repeats", "1", "--batch", "16")  # two ranks fit the drawn shards' 48 products
    if gpu:
        # Estimates of a machine with 16 cores. A burst of 16 PIL workers is 256 products at 31 products/s a core
        # (measured on a CPU): 8.3 s. Such a row takes 5 of them, one for the gate, two that may lie ready, two that are
        # timed, and 15 s to start: 57 s. Workers that only decode (kornia) need 3 s a burst: with the crops 40 s. A
        # compiled row takes 60 to 70 s, one that is not 20 s. Of BUDGET_S=570 that is
        #   step 142 s: base 60, compile off 20, backend reference 60;  peers 182 s: base 57, ours 70, kornia 40
        #   loader 125 s: ours 20, base 57, kornia 40;                  train 91 s, kernels 30 s: together 570 s.
        return [
            Row("train", 0.16, 70, ("benchmarks.train", *whole, *once, "8")),
            Row("kernels", 0.05, 30, ("benchmarks.kernels", *alone, "--batch", "256", "--repeats", "30")),
            Row("step", 0.25, 120, ("benchmarks.step", *alone, *once, "3")),
            Row("peers", 0.32, 130, ("benchmarks.peers", *whole, *once, "6"), begin=0.75),
            Row("loader", 0.22, 95, ("benchmarks.loader", *whole, *once, "4", "--sweep")),
            Row("arrangements", 0.1, 30, ("benchmarks.arrangements", *whole, "--turns", "3")),
            Row("sweep", 0.4, 90, ("benchmarks.train", *whole, *once, "4", "--sweep")),
            Row("shards", 0.2, 60, shards),
        ]
    return [
        Row("train", 0.3, 70, ("benchmarks.train", *whole, *once, "4", "--sweep", "threads")),
        Row("loader", 0.15, 60, ("benchmarks.loader", *whole, *once, "3")),
        Row("kernels", 0.05, 15, ("benchmarks.kernels", *alone, "--repeats", "20")),
        Row("step", 0.15, 60, ("benchmarks.step", *alone, *once, "1")),
        Row("peers", 0.2, 60, ("benchmarks.peers", *whole, *once, "4")),
        Row("scaling", 0.15, 60, ("benchmarks.scaling", *whole, *scaling)),
        Row("shards", 0.2, 40, shards),
        Row("feeding", 0.2, 40, ("benchmarks.feeding", "--data", DATA, "--out", OUT, "--repeats", "1")),
    ]


def carry_out(rows: Sequence[Row], data: Path, folder: Path, budget_s: float) -> dict[str, str]:
    """Run the rows in order; {row: what became of it}."""
    began, became = time.monotonic(), {}
    for row in rows:
        left_s = budget_s - (time.monotonic() - began)
        if left_s < row.least_s:
            became[row.name] = f"not begun: {max(left_s, 0):.0f} s left of the budget, it takes {row.least_s:.0f}"
            continue
        out = folder / f"{row.name}.jsonl"
        share_s = min(left_s, max(row.share * budget_s, row.least_s))
        print(f"--- {row.name}: {share_s:.0f} s of {left_s:.0f} s left", flush=True)
        code = in_time(row.command(data, out, row.begin * share_s), share_s)
        damaged: list[str] = []
        records = read(out, damaged=damaged) if out.is_file() else []
        without = sum(record.value is None for record in records)
        ended = "stopped: its time was over" if code is None else f"exit code {code}" if code else "done"
        left_out = f"; {len(damaged)} damaged lines left out, the first: {damaged[0]}" if damaged else ""
        could_not = f", {without} of them without a figure" if without else ""
        became[row.name] = f"{ended}, {len(records)} records{could_not}{left_out}"
    return became


def in_time(command: Sequence[str], seconds: float) -> int | None:
    """The exit code; None where it had to be stopped, with all its children."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:  # Ctrl-C too: no benchmark goes on behind this one's back
            end(process, CLOSING_S)


def drawn_shards() -> Path:
    """Shards of ``PHOTOGRAPHS`` drawn photographs of 1200 x 1600, two a product, kept in the cache folder."""
    final = cache_folder() / f"bench-{PHOTOGRAPHS}"
    if not (final / "dataset.json").is_file():
        print(f"drawing {PHOTOGRAPHS} photographs and building their shards into {final} (once)", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            files = drawn_photographs(Path(scratch) / "photographs", PHOTOGRAPHS)
            lines = [f"p{place // 2},{file},dress" for place, file in enumerate(files)]
            manifest = Path(scratch) / "manifest.csv"
            manifest.write_text("\n".join(["product_id,image_path,product_type", *lines]) + "\n")
            build(manifest, final, overwrite=True)
    return final


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--budget-s", type=float, default=480.0, help="for everything (default %(default)s)")
    parser.add_argument("--data", type=Path, help="a folder of shards (default: drawn ones of 512 pixels)")
    parser.add_argument("--out", type=Path, help="folder for the records (default: runs/bench/DATE)")
    parser.add_argument("--rows", nargs="+", help="only these of the plan")
    parser.add_argument("--list", action="store_true", help="print the plan, measure nothing")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    rows = plan(gpu=torch.cuda.is_available())
    unknown = set(options.rows or ()) - {row.name for row in rows}
    if unknown or not options.budget_s > 0:
        raise BadUsage(
            f"no row {', '.join(sorted(unknown))}" if unknown else f"a budget of {options.budget_s:.0f} s",
            allowed=f"rows {', '.join(row.name for row in rows)}; a budget above 0",
            change="python -m benchmarks.bench --list shows the plan",
        )
    rows = [row for row in rows if not options.rows or row.name in options.rows]
    if options.list:
        print("\n".join(f"{row.name:<10}from {row.least_s:>3.0f} s, {' '.join(row.arguments)}" for row in rows))
        return
    began = time.monotonic()
    folder = options.out or Path("runs/bench") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    data = options.data or drawn_shards()
    became = carry_out(rows, data, folder, options.budget_s - (time.monotonic() - began))
    print(f"\n{folder}, {time.monotonic() - began:.0f} s of {options.budget_s:.0f} s")
    for name, outcome in became.items():
        print(f"  {name:<10}{outcome}")
    failed = [name for name, outcome in became.items() if outcome.startswith("exit code")]
    if failed:
        raise Failure(f"{', '.join(failed)} ended with an error", change="what was said above; the other rows stand")


if __name__ == "__main__":
    sys.exit(main())
