"""torchmetrics, which writes these scores down in its own way, agrees with ours where the definitions meet.

They meet where no two scores are equal and none is negative: ours count ties against the embedding, torchmetrics takes
them as they lie, and passes over relevant items whose similarity is not above 0. That is why it only looks on here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_recall_at_fixed_precision, multiclass_accuracy
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

from skill_fast.evaluate.knn import knn_score
from skill_fast.evaluate.recall_at_precision import class_recall, recall_at_precision
from skill_fast.evaluate.retrieval import RECALL_AT, same_product


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), share=st.floats(0.1, 0.9), precision=st.floats(0.05, 0.99))
def test_recall_at_fixed_precision(seed, n, share, precision):
    """Ours in float64 and theirs in float32 could differ where the precision hits a fraction: no such draw is made."""
    drawn = np.random.default_rng(seed)
    scores = drawn.permutation(n) / n  # all different
    positive = drawn.random(n) < share
    positive[0] = True
    theirs, _ = binary_recall_at_fixed_precision(
        torch.from_numpy(scores), torch.from_numpy(positive).long(), min_precision=precision
    )
    assert class_recall(scores, positive, precision) == pytest.approx(theirs.item(), abs=1e-6)


def test_the_macro_average_is_over_classes_one_versus_rest():
    drawn = np.random.default_rng(3)
    probabilities = drawn.dirichlet(np.ones(4), size=200)
    labels = np.array([drawn.choice(4, p=row) for row in probabilities])  # calibrated: high cuts are precise
    each = [
        binary_recall_at_fixed_precision(
            torch.from_numpy(probabilities[:, c]), torch.from_numpy(labels == c).long(), min_precision=0.85
        )[0].item()
        for c in range(4)
    ]
    ours = recall_at_precision(probabilities, labels, 0.85)
    assert min(each) > 0 and ours.macro == pytest.approx(sum(each) / 4, abs=1e-6)
    assert ours.weighted == pytest.approx(np.average(each, weights=np.bincount(labels)), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_of_the_same_product(seed):
    """Their metrics take (query, item) pairs; the query itself is no item, and products with one photograph ask not."""
    drawn = np.random.default_rng(seed)
    of_image = np.repeat(np.arange(25), drawn.integers(1, 5, 25))
    images = drawn.normal(size=(25, 16))[of_image] + 1.2 * drawn.normal(size=(len(of_image), 16))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    similarity = images @ images.T
    asks, items = np.where(~np.eye(len(images), dtype=bool))
    asked = np.bincount(of_image)[of_image[asks]] > 1
    asks, items = asks[asked], items[asked]
    pairs = {
        "preds": torch.from_numpy(1 + similarity[asks, items]),  # below 0 they count no item as relevant
        "target": torch.from_numpy(of_image[asks] == of_image[items]),
        "indexes": torch.from_numpy(asks),
    }
    ours = same_product(images.astype(np.float32), of_image)
    assert 0.1 < float(ours.map) < 0.95
    assert float(ours.map) == pytest.approx(RetrievalMAP()(**pairs).item(), abs=1e-6)
    for k in RECALL_AT:
        assert float(ours.recall[k]) == pytest.approx(RetrievalHitRate(top_k=k)(**pairs).item(), abs=1e-6)


def test_knn_accuracy_of_the_votes_by_hand():
    """A query's votes are computed here in loops; torchmetrics counts how many are right."""
    drawn = np.random.default_rng(5)
    names = np.array(["shirt", "dress", "shoe"])[drawn.integers(0, 3, 60)]
    embeddings = drawn.normal(size=(60, 8)).astype(np.float32) + 2 * (names == "shoe")[:, None]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    queries, bank = np.arange(20), np.arange(20, 60)
    classes = sorted(set(names))
    votes = torch.zeros(20, 3, dtype=torch.float64)
    for query in queries:
        likeness = embeddings[bank].astype(np.float64) @ embeddings[query].astype(np.float64)
        for place in np.argsort(-likeness)[:20]:
            votes[query, classes.index(names[bank[place]])] += np.exp(likeness[place] / 0.07)
    target = torch.tensor([classes.index(name) for name in names[queries]])
    theirs = multiclass_accuracy(votes.argmax(1), target, num_classes=3, average="micro").item()
    groups = np.arange(60)
    assert 0.3 < theirs < 1
    assert float(knn_score(embeddings, names, groups, queries, bank).accuracy) == pytest.approx(theirs, abs=1e-6)
