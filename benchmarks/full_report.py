"""How long a full report takes: ``skill-eval`` with all default tasks, as a user starts it, on each data set.

    python -m benchmarks.full_report RUN --data luma=DIR demo=DIR --out benchmarks/records/full-report.jsonl

One process a data set and repeat, one after the other. A record a data set: seconds of the scores after embedding (five
embeddings, every task of ``DEFAULT_TASKS``), and of embedding. Goal: 180 s after embedding on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import archive
from benchmarks.options import count
from skill_fast.errors import BadUsage, Failure, exit_with
from skill_fast.evaluate.scoreboard import probed
from skill_fast.evaluate.suite import DEFAULT_TASKS
from skill_fast.telemetry.provenance import provenance

GOAL_S = 180.0


class Failed(Failure):
    """skill-eval ended with an error, which it has printed."""


def evaluated(run: Path, data: str, tasks: str) -> tuple[dict[str, Any], float]:
    """(evaluation, CPU seconds) of one ``skill-eval`` process. Raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "evaluation.json"
        command = [sys.executable, "-m", "skill_fast.evaluate.command", str(run), "--data", data, "--json", str(out)]
        command += ["--tasks", tasks]
        before = _cpu_s()
        code = subprocess.run(command, check=False).returncode
        spent = _cpu_s() - before
        if code:
            raise Failed(f"skill-eval ended with exit code {code} on '{data}'", change="see what it printed above")
        return json.loads(out.read_text(encoding="utf-8")), spent


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def records(run: Path, name: str, data: str, tasks: str, repeats: int) -> Iterator[dict[str, Any]]:
    """The data set's two records: medians over the repeats, each repeat's seconds beside them."""
    runs = [evaluated(run, data, tasks) for _ in range(repeats)]
    first: dict[str, Any] = runs[0][0]
    trained = first["rows"]["trained"]
    shapes = {"products": first["products"], "photographs": first["photographs"], "embeddings": len(first["rows"])}
    shapes |= {"attributes probed": len(probed(trained)), "scores": len(trained)}
    about = {"data": name, "shapes": shapes, "tasks": first["tasks"], "device": "cpu"}
    for part, goal in (("scores", {"goal": GOAL_S}), ("embedding", {})):
        seconds = [result["seconds"][part] for result, _ in runs]
        row = {
            "what": f"full_report/{part}",
            "value": statistics.median(seconds),
            "unit": "s",
            "repeats": seconds,
            "warm_up": 0,
        }
        yield row | goal | {"cpu_s_of_all": [spent for _, spent in runs]} | about


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="benchmarks.full_report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR", help="folders of shards, with names")
    parser.add_argument("--tasks", default=",".join(DEFAULT_TASKS), help="of skill-eval (default %(default)s)")
    parser.add_argument("--repeats", type=count, default=1, help="of each data set (default %(default)s)")
    parser.add_argument("--out", type=Path, help="append the records there as they come")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    named = [text.partition("=") for text in options.data]
    if wrong := [text for text, (name, _, folder) in zip(options.data, named) if not (name and folder)]:
        raise BadUsage(f"--data {wrong[0]}", allowed="NAME=DIR, as in luma=shards/luma", change="--data")
    shared = provenance()
    for name, _, folder in named:
        for record in records(options.run, name, folder, options.tasks, options.repeats):
            print(f"{record['what']} of {name}: {record['value']:.1f} s", flush=True)
            if options.out:
                archive.append(options.out, [record | shared])


if __name__ == "__main__":
    sys.exit(main())
