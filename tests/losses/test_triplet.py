"""Semi-hard mining and the triplet loss against loops in float64, and against pytorch-metric-learning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skill_fast.losses.triplet import semi_hard_negatives, squared_distances, triplet_loss
from tests.losses.test_contrastive import rows, same_with_gradients

MARGIN = 0.2


def pairs(groups: Tensor) -> tuple[Tensor, Tensor]:
    same = groups[:, None] == groups[None, :]
    return same & ~torch.eye(len(groups), dtype=torch.bool), ~same


def mined_in_loops(z: Tensor, groups: Tensor) -> list[tuple[int, int, int]]:
    """FaceNet, section 3.2: of the negatives farther than the positive and within the margin, the nearest."""
    unit = [row / (row * row).sum().sqrt() for row in z]

    def distance(a: int, b: int) -> Tensor:
        return ((unit[a] - unit[b]) ** 2).sum()

    found = []
    n = len(z)
    for a in range(n):
        for p in range(n):
            if p == a or groups[p] != groups[a]:
                continue
            fits = [
                k for k in range(n)
                if groups[k] != groups[a] and distance(a, p) < distance(a, k) < distance(a, p) + MARGIN
            ]  # fmt: skip
            if fits:
                found.append((a, p, min(fits, key=lambda k: distance(a, k))))
    return found


def loss_in_loops(z: Tensor, groups: Tensor) -> Tensor:
    unit = [row / (row * row).sum().sqrt() for row in z]
    terms = [
        (((unit[a] - unit[p]) ** 2).sum() - ((unit[a] - unit[n]) ** 2).sum() + MARGIN).clamp_min(0)
        for a, p, n in mined_in_loops(z.detach(), groups)
    ]
    return sum(terms) / len(terms) if terms else 0 * z.sum()


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.integers(0, 3), min_size=2, max_size=9), seed=st.integers(0, 99))
def test_mining_and_loss_are_the_definition(groups, seed):
    z, groups = rows(len(groups), 3, seed), torch.tensor(groups)
    positive, negative = pairs(groups)
    place, found = semi_hard_negatives(squared_distances(z), positive, negative, MARGIN)
    ours = [(a, p, int(place[a, p])) for a, p in found.nonzero().tolist()]
    assert ours == mined_in_loops(z, groups)
    result = triplet_loss(z, positive, negative, MARGIN)
    assert (int(result.mined), int(result.active)) == (len(ours), len(ours))
    same_with_gradients(
        lambda x: triplet_loss(x, positive, negative, MARGIN).loss,
        lambda x: loss_in_loops(x, groups),
        z,
        rtol=1e-8,
    )


def test_a_batch_without_triplets_moves_nothing():
    z = rows(4, 3, 0).requires_grad_()
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    result = triplet_loss(z, nothing, nothing)
    result.loss.backward()
    assert result.loss.item() == 0 and int(result.mined) == 0 and not z.grad.any()


@pytest.mark.parametrize("seed", range(3))
def test_pytorch_metric_learning_agrees(seed):
    """Its miner returns every semi-hard triplet; of each pair's, ours is the one with the nearest negative."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    groups = torch.arange(24) // 3
    z = rows(24, 5, seed).float()
    squared = LpDistance(normalize_embeddings=True, p=2, power=2)
    every = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=squared)(z, groups)
    distances = squared(z)
    nearest: dict[tuple[int, int], int] = {}
    for a, p, n in zip(*(part.tolist() for part in every)):
        best = nearest.get((a, p))
        if best is None or distances[a, n] < distances[a, best]:
            nearest[a, p] = n
    positive, negative = pairs(groups)
    place, found = semi_hard_negatives(squared_distances(z), positive, negative, MARGIN)
    assert {(a, p): int(place[a, p]) for a, p in found.nonzero().tolist()} == nearest
    a, p = (torch.tensor(part) for part in zip(*nearest))
    chosen = (a, p, torch.tensor(list(nearest.values())))
    theirs = TripletMarginLoss(margin=MARGIN, distance=squared)

    def mean_over_mined(x: Tensor) -> Tensor:  # theirs averages over the triplets whose term is not 0: all of these
        return theirs(x, groups, chosen)

    same_with_gradients(lambda x: triplet_loss(x, positive, negative, MARGIN).loss, mean_over_mined, z, rtol=2e-5)
