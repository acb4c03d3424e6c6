"""R@P, recall at precision P: the share of a class that can be labelled automatically at a promised precision.

SkiLL's tables 2 to 4 report R@90 and R@95. How it averages over classes is not published; per class and weighted by
support is this project's choice. One cut for all classes can not be meant: as soon as accuracy reaches P, that cut
accepts everything and R@P equals accuracy, while table 2 has accuracy 91.39 beside R@90 78.81.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
