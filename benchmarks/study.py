"""The study of methods: records of ``benchmarks.methods`` to the tables of docs/study.md, and verdicts on findings.

A finding of the papers is "A before B by a score". Runs of A and B with one seed saw the same products, so differences
are taken seed by seed; their mean has a 95 % interval by Student's t over seeds. Nothing is measured here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.archive import Record
from benchmarks.method_runs import CONTROLS, OTHER_PIXELS, SCORES, SPEED
from benchmarks.methods import cell, interval
from benchmarks.tables import Table, markdown, texts

Runs = Mapping[str, Mapping[int, Mapping[str, float]]]
"""{method or ablation: {seed: {score: value}}}"""
PATTERN, OTHER_COLOR, ENTROPY = "knn/pattern/accuracy", "retrieval/other_color/recall@1", "color/clusters/mean"
ABSENT = "No run of `benchmarks.methods` is on record."


@dataclass(frozen=True)
class Finding:
    """``better`` has more of ``score`` than ``worse``."""

    says: str
    better: str
    worse: str
    score: str


ORDERS = {
    "SkiLL before DINO": ("skill", "dino"),
    "DINO before SimCLR": ("dino", "simclr"),
    "SimCLR before BYOL": ("simclr", "byol"),
    "A, augmentation by product type, helps": ("skill", "skill_no_local_augmentation"),
    "H, pre-processing, helps": ("skill", "skill_no_preprocessing"),
    "two photographs help": ("skill", "skill_single_photograph"),
    "pairs of global crops beside pairs across resolutions help": ("skill", "skill_cross_resolution"),
}
FINDINGS = [
    *(Finding(says, *pair, score) for says, pair in ORDERS.items() for score in (PATTERN, OTHER_COLOR)),
    Finding("weak colour augmentation lowers colour entropy", "skill", "skill_weak_color", ENTROPY),
]
"""The papers' orders (SkiLL's tables 2 to 4 and its ablations). The last two "help" are this project's questions."""


def by_steps(records: Sequence[Record]) -> dict[int, list[Record]]:
    """Records of runs by their length in steps, the length with most records first; records of speed are in each."""
    mine = [r for r in records if r.kind == "methods" and r.value is not None]
    speeds = [r for r in mine if r.what.endswith(SPEED)]
    scores = [r for r in mine if not r.what.endswith(SPEED)]
    lengths = Counter(r.fields["steps"] for r in scores)
    return {steps: [r for r in scores if r.fields["steps"] == steps] + speeds for steps, _ in lengths.most_common()}


def runs_of(records: Sequence[Record]) -> dict[str, dict[int, dict[str, float]]]:
    """Scores by method and seed, of runs of one length; of two records of one run the later."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        if record.value is not None and not record.what.endswith(SPEED):
            score = record.name.partition("/")[2]
            found.setdefault(record.fields["method"], {}).setdefault(record.fields["seed"], {})[score] = record.value
    return found


def controls_of(records: Sequence[Record], control: str, score: str) -> list[float]:
    """A control's score, once a seed: only the untrained encoder's differs between them."""
    seeds = {
        r.fields["seed"]: r.fields["controls"][control]
        for r in records
        if r.what.endswith(f"/{score}") and r.kind == "methods"
    }
    return list(seeds.values())


def score_table(records: Sequence[Record]) -> Table:
    """A row a method, best kNN of patterns first, then the controls; means over seeds with half a 95 % interval."""
    runs = runs_of(records)
    mine = [record for record in records if record.fields.get("method") not in (None, *OTHER_PIXELS)]

    def column(method: str, score: str) -> list[float]:
        return [scores[score] for scores in runs[method].values() if score in scores]

    def speed(method: str) -> str:
        values = [r.value for r in records if r.what == f"methods/{method}/{SPEED}" and r.value is not None]
        return cell(values, 0) if values else ""

    ranked = sorted(runs, key=lambda method: -interval(column(method, PATTERN))[0])
    rows = [(m, str(len(runs[m])), *(cell(column(m, score)) for score in SCORES), speed(m)) for m in ranked]
    if rows:
        rows += [(name, "", *(cell(controls_of(mine, name, score)) for score in SCORES), "") for name in CONTROLS]
    scores = (f"{' '.join(heading.split())}, {unit}" for heading, unit in SCORES.values())
    header = ("embedding", "seeds", *scores, "products/s")
    return texts("Means over seeds, ± half a 95 % interval where there are two or more.", header, rows, ABSENT)


def verdict(differences: Sequence[float]) -> str:
    """holds, or does not, where the interval over seeds leaves 0 out; else what the runs can not say."""
    if not differences:
        return "no run"
    mean, half = interval(differences)
    if math.isnan(half):
        return f"one seed: {'as the papers say' if mean > 0 else 'the other way' if mean < 0 else 'equal'}"
    return "not told apart" if abs(mean) <= half else "holds" if mean > 0 else "does not hold"


def finding_table(records: Sequence[Record]) -> Table:
    """Each finding whose two sides have runs: the difference over the seeds that both have, and what it says."""
    runs, rows = runs_of(records), []
    for finding in FINDINGS:
        one, other = runs.get(finding.better, {}), runs.get(finding.worse, {})
        if not one or not other:
            continue
        differences = [one[seed][finding.score] - other[seed][finding.score] for seed in sorted({*one} & {*other})]
        heading = " ".join(SCORES[finding.score][0].split())
        shown = f"{'+' * (interval(differences)[0] >= 0)}{cell(differences)}" if differences else ""
        rows.append((finding.says, heading, str(len(differences)), shown, verdict(differences)))
    header = ("finding", "by", "seeds", "difference", "here")
    return texts("Differences, seed by seed.", header, rows, "No finding has runs on both of its sides.")


def study(records: Sequence[Record]) -> str:
    """docs/study.md's part: both tables for each length of runs, the length with most records first."""
    parts: list[str] = []
    for steps, mine in by_steps(records).items():
        tables = (score_table(mine), finding_table(mine))
        parts += [f"### {steps:,} steps\n", *(f"{table.title}\n\n{markdown(table)}" for table in tables)]
    return "\n".join(parts) if parts else f"{ABSENT}\n"
