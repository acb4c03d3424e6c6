"""What the demo learned: records of finished runs, one line a score.

    python -m benchmarks.demo runs/demo-0 runs/demo-1 runs/demo-2 --out benchmarks/records/demo.jsonl

Measuring is ``train.py``'s own evaluation (evaluation.json); this adds the machine, versions and commit that the run
recorded, and says whether it keeps the promise: against the untrained encoder pattern kNN at least .10 higher,
colour kNN at least .20 lower, same-design-other-colour recall@5 at least doubled, and no collapse.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.archive import write
from skill_fast.errors import BadData, exit_with

SCORES = {
    "knn/pattern/accuracy": "share",
    "knn/color/accuracy": "share",
    "knn/type/accuracy": "share",
    "retrieval/same_product/recall@1": "share",
    "retrieval/other_color/recall@1": "share",
    "retrieval/other_color/recall@5": "share",
    "color/clusters/mean": "nats",
    "color/ceiling/mean": "nats",
    "color/floor/mean": "nats",
    "color/design/pattern/purity": "share",
}


def records(run: Path) -> Iterator[dict[str, Any]]:
    """One record a score of one run; ``value`` is the trained encoder's, ``controls`` the other rows'."""
    try:
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        raise BadData(
            f"'{run}' is not a finished run: {error}", change="train it to its end, with evaluation"
        ) from error
    rows = evaluation["rows"]
    shared = {
        "seed": config["seed"],
        "steps": evaluation["step"],
        "products": evaluation["products"],
        "dataset": evaluation["dataset"],
        "teacher_entropy": last["teacher_entropy"],
        "kl": last["kl"],
        "keeps_promise": keeps_promise(rows["trained"], rows["untrained"])
        and not collapsed(last["teacher_entropy"], last["kl"], config["head"]["prototypes"]),
        **config["provenance"],
    }
    for score, unit in SCORES.items():
        controls = {name: row[score] for name, row in rows.items() if name != "trained"}
        yield {"what": f"demo/{score}", "value": rows["trained"][score], "unit": unit, "controls": controls, **shared}


def keeps_promise(trained: dict[str, float], untrained: dict[str, float]) -> bool:
    """Whether a run learned what the README says it learns."""
    pattern, color = "knn/pattern/accuracy", "knn/color/accuracy"
    recall = "retrieval/other_color/recall@5"
    return (
        trained[pattern] >= untrained[pattern] + 0.10
        and trained[color] <= untrained[color] - 0.20
        and trained[recall] >= 2 * untrained[recall]
    )


def collapsed(teacher_entropy: float, kl: float, prototypes: int) -> bool:
    """Uniform output (entropy at ln K), one prototype for all (entropy 0), or nothing left to learn (KL 0)."""
    return not (0.1 < teacher_entropy < math.log(prototypes) - 0.1 and kl > 0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.demo", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)

    def run() -> None:
        found = [record for run in options.runs for record in records(run)]
        write(options.out, found)
        print(f"{options.out}: {len(found)} records of {len(options.runs)} runs")

    return exit_with(run)


if __name__ == "__main__":
    sys.exit(main())
