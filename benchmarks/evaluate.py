"""What scoring a catalogue of millions costs: neighbours, k-means and retrieval on drawn embeddings.

    python -m benchmarks.evaluate --count 1000000 --out benchmarks/records/evaluate.jsonl

Drawn: designs of four colours each, a design near its pattern, a pattern near its type, in a space of 48 dimensions
turned into 384, so that scores mean something. Each part is the function that ``skill-eval`` calls, and is written when
it is done. Peak memory is the process' own (VmHWM), drawn embeddings included. Goals at 1,000,000 on two cores: 10
minutes, 12 GB.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.archive import write
from shards.errors import BadUsage, exit_with
from skill_fast.evaluate.clusters import cluster
from skill_fast.evaluate.color import PRODUCTS_A_CLUSTER, design_agreement, nearest_entropy, partition_entropy
from skill_fast.evaluate.knn import knn_score, neighbor_list
from skill_fast.evaluate.products import group_codes
from skill_fast.evaluate.retrieval import same_design_other_color
from skill_fast.telemetry.provenance import provenance

DIMENSIONS = 384
LATENT = 48
TYPES, PATTERNS, COLORS, COLORS_A_DESIGN = 20, 200, 12, 4
GOAL_S, GOAL_BYTES = 600, 12e9


@dataclass(frozen=True)
class Catalogue:
    """embeddings [products, 384] float32; labels [products] str."""

    embeddings: np.ndarray
    group: np.ndarray
    pattern: np.ndarray
    color: np.ndarray


def drawn(count: int, seed: int = 0) -> Catalogue:
    """``count`` products, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    design = np.arange(count) // COLORS_A_DESIGN
    pattern_of = rng.integers(PATTERNS, size=design[-1] + 1)
    shades = rng.integers(COLORS, size=len(pattern_of))[design] + 3 * (np.arange(count) % COLORS_A_DESIGN)
    types = rng.standard_normal((TYPES, LATENT), np.float32)
    patterns = types[np.arange(PATTERNS) % TYPES] + 0.7 * rng.standard_normal((PATTERNS, LATENT), np.float32)
    latent = patterns[pattern_of] + 0.6 * rng.standard_normal((len(pattern_of), LATENT), np.float32)
    latent = latent[design] + 0.4 * rng.standard_normal((COLORS, LATENT), np.float32)[shades % COLORS]
    latent += 0.45 * rng.standard_normal((count, LATENT), np.float32)
    turned = np.linalg.qr(rng.standard_normal((DIMENSIONS, LATENT)))[0].T.astype(np.float32)
    labels = (np.char.add(*parts) for parts in (("g", design.astype(str)), ("p", pattern_of[design].astype(str))))
    group, pattern = labels
    return Catalogue(latent @ turned, group, pattern, np.char.add("c", (shades % COLORS).astype(str)))


def measure(count: int) -> Iterator[dict[str, Any]]:
    """One record a part when it is done, one a score, then the whole: seconds, bytes, what was approximated."""
    catalogue = drawn(count)
    everyone, groups = np.arange(count), group_codes(catalogue.group)
    spent: dict[str, float] = {}
    shapes = {"products": count, "dimensions": DIMENSIONS}
    about = {"shapes": shapes, "dtype": catalogue.embeddings.dtype.name, "warm_up": 0}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent[part] = time.perf_counter() - start
        print(f"{part}: {spent[part]:.1f} s, peak {peak_bytes() / 1e9:.1f} GB", file=sys.stderr, flush=True)

    def taken(part: str, how: str = "") -> dict[str, Any]:
        return {"what": f"evaluate/{part}", "value": spent[part], "unit": "s", "how": how, **about}

    with timed("neighbours"):
        found = neighbor_list(catalogue.embeddings, groups, everyone, everyone)
    yield taken("neighbours", found.how)
    with timed("kNN of two attributes"):
        scores = {
            f"knn/{name}": knn_score(catalogue.embeddings, values, groups, everyone, everyone, found=found).accuracy
            for name, values in (("pattern", catalogue.pattern), ("color", catalogue.color))
        }
    yield taken("kNN of two attributes")
    with timed("colour entropy of neighbours"):
        scores["color/nearest"] = nearest_entropy(catalogue.embeddings, catalogue.color, found=found)[0]
    yield taken("colour entropy of neighbours")
    del found
    with timed("k-means"):
        clustering = cluster(catalogue.embeddings, round(count / PRODUCTS_A_CLUSTER))
    yield taken("k-means", clustering.how)
    with timed("scores of the clusters"):
        scores["color/clusters/mean"] = partition_entropy(clustering.labels, catalogue.color, replicates=True).mean
        agreement = design_agreement(clustering.labels, [], catalogue.pattern)
        scores |= {"color/design/pattern/purity": agreement.purity, "color/design/pattern/nmi": agreement.nmi}
    yield taken("scores of the clusters")
    with timed("retrieval"):
        retrieved = same_design_other_color(catalogue.embeddings, catalogue.group, catalogue.color)
    assert retrieved is not None
    yield taken("retrieval", retrieved.how)
    scores |= {"retrieval/other_color/recall@1": retrieved.recall[1], "retrieval/other_color/map": retrieved.map}
    for name, score in scores.items():
        quantiles = {"p2.5": score.low, "p97.5": score.high}
        yield {"what": f"evaluate/score/{name}", "value": float(score), "unit": "", "quantiles": quantiles, **about}
    yield {"what": "evaluate/all parts", "value": sum(spent.values()), "unit": "s", "goal": GOAL_S, **about}
    yield {"what": "evaluate/peak memory", "value": peak_bytes() / 1e9, "unit": "GB", "goal": GOAL_BYTES / 1e9, **about}


def peak_bytes() -> int:
    """The largest resident size of this process so far (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="benchmarks.evaluate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="embeddings (default %(default)s)")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if options.count < 1000:
        raise BadUsage(f"--count {options.count}", allowed="1000 or more", change="--count")
    shared = {"device": "cpu", **provenance()}
    made: list[dict[str, Any]] = []
    for record in measure(options.count):
        made.append(record | shared)
        if options.out:
            write(options.out, made)
        print(
            f"{record['what']:44} {record['value']:10.4g} {record['unit']:3} {record.get('how', '')}".rstrip(),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
