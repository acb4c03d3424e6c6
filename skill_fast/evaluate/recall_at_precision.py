"""R@P, recall at precision P: the share of a class that can be labelled automatically at a promised precision.

SkiLL's tables 2 to 4 report R@90 and R@95. How it averages over classes is not published; per class and weighted by
support is this project's choice. One cut for all classes can not be meant: as soon as accuracy reaches P, that cut
accepts everything and R@P equals accuracy, while table 2 has accuracy 91.39 beside R@90 78.81.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.bootstrap import draws


@dataclass(frozen=True)
class RecallAtPrecision:
    """The three averages of one R@P, each in [0, 1]."""

    weighted: float
    """By the classes' support: the headline."""
    macro: float
    pooled: float
    """One cut on the confidence of the most probable class: ``global`` in the tables."""


def class_recall(scores: np.ndarray, positive: np.ndarray, precision: float) -> float:
    """Largest recall of any score cut whose precision is at least ``precision``; 0 where there is no such cut.

    scores [n] float, positive [n] bool. Cuts lie only where the score changes: products with equal scores are taken
    together. Raises ValueError without a positive product.
    """
    from sklearn.metrics import precision_recall_curve  # a second of imports, which a training run need not wait for

    if not positive.any():
        raise ValueError("recall is not defined without a positive product")
    found, recall, _ = precision_recall_curve(positive, scores)
    # The last point, precision 1 at recall 0, belongs to no cut.
    return float(recall[:-1][found[:-1] >= precision].max(initial=0.0))


def recall_at_precision(probabilities: np.ndarray, labels: np.ndarray, precision: float) -> RecallAtPrecision:
    """R@P of a classifier over the classes that ``labels`` contain.

    probabilities [n, classes] float, labels [n] int. Per class c: one versus rest on probabilities[:, c].
    pooled: with top = most probable class, the largest share of products that are right and above one cut on their top
    probability such that a share >= P of those above it is right.
    """
    present, support = np.unique(labels, return_counts=True)
    recalls = np.array([class_recall(probabilities[:, c], labels == c, precision) for c in present])
    right = probabilities.argmax(axis=1) == labels
    pooled = class_recall(probabilities.max(axis=1), right, precision) * right.mean() if right.any() else 0.0
    weighted = float((recalls * support).sum() / support.sum())
    return RecallAtPrecision(weighted, float(recalls.mean()), float(pooled))


def resampled_recalls(scores: np.ndarray, positive: np.ndarray, precisions: Sequence[float]) -> np.ndarray:
    """[resamples, precisions] ``class_recall`` of each draw of the products; 0 where no positive one was drawn.

    scores [n] float, positive [n] bool. One sort serves all draws: along it the drawn products and the drawn positive
    ones are cumulated, and cuts lie where the score changes.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = []
    for counts in draws(len(scores)):
        drawn = counts[:, order].astype(np.int32)
        taken = np.cumsum(drawn, axis=1)[:, ends]
        right = np.cumsum(drawn * positive[order].astype(np.int32), axis=1)[:, ends]
        total = right[:, -1]
        best = [np.where((right >= p * taken - 1e-9) & (taken > 0), right, 0).max(axis=1) for p in precisions]
        found.append(np.stack([recall / np.maximum(total, 1) for recall in best], axis=1))
    return np.concatenate(found)


def resampled_recall_at_precision(
    probabilities: np.ndarray, labels: np.ndarray, precisions: Sequence[float]
) -> np.ndarray:
    """[resamples, precisions, 3] replicates of ``recall_at_precision``: weighted, macro, pooled.

    Support and the classes of the macro average are those of each draw.
    """
    present, code = np.unique(labels, return_inverse=True)
    of_class = np.stack([resampled_recalls(probabilities[:, c], labels == c, precisions) for c in present], axis=1)
    one_hot = np.eye(len(present), dtype=np.float32)[code]
    support = np.concatenate([counts.astype(np.float32) @ one_hot for counts in draws(len(labels))])
    weighted = np.einsum("rc,rcp->rp", support / support.sum(axis=1, keepdims=True), of_class)
    drawn = (support > 0).astype(np.float64)
    macro = np.einsum("rc,rcp->rp", drawn / drawn.sum(axis=1, keepdims=True), of_class)
    right = probabilities.argmax(axis=1) == labels
    accuracy = np.concatenate([counts @ right.astype(np.float64) for counts in draws(len(labels))]) / len(labels)
    pooled = resampled_recalls(probabilities.max(axis=1), right, precisions) * accuracy[:, None]
    return np.stack([weighted, macro, pooled], axis=2)
