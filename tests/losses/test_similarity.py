"""BYOL's and SimSiam's losses against loops in float64, and against lightly's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.losses.similarity import byol_distance, negative_cosine
from tests.losses.test_contrastive import cosine, rows, same_with_gradients


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), dim=st.integers(1, 9), seed=st.integers(0, 99))
def test_both_are_the_papers_formulas(n, dim, seed):
    predictions, targets = rows(n, dim, 2 * seed), rows(n, dim, 2 * seed + 1)

    def simsiam(p):
        return sum(-cosine(row, z) for row, z in zip(p, targets)) / n

    def byol(p):
        length = [row / (row * row).sum().sqrt() for row in p]
        return sum(((row - z / (z * z).sum().sqrt()) ** 2).sum() for row, z in zip(length, targets)) / n

    same_with_gradients(lambda p: negative_cosine(p, targets), simsiam, predictions, rtol=1e-9)
    same_with_gradients(lambda p: byol_distance(p, targets), byol, predictions, rtol=1e-9)


@pytest.mark.parametrize("loss", [negative_cosine, byol_distance])
def test_targets_have_no_gradient(loss):
    predictions, targets = rows(3, 4, 0).requires_grad_(), rows(3, 4, 1).requires_grad_()
    loss(predictions, targets).backward()
    assert predictions.grad is not None and targets.grad is None


def test_the_ends_of_the_scale():
    row = torch.tensor([[3.0, 4.0]])
    assert byol_distance(row, 2 * row).item() == pytest.approx(0, abs=1e-6)
    assert byol_distance(row, -row).item() == pytest.approx(4, abs=1e-6)


def test_lightly_agrees():
    from lightly.loss import NegativeCosineSimilarity

    targets = rows(7, 12, 2).float()
    same_with_gradients(
        lambda p: negative_cosine(p, targets),
        lambda p: NegativeCosineSimilarity()(p, targets),
        rows(7, 12, 1).float(),
        rtol=1e-5,
    )
