"""Probes: gradients do not mix, what can be learned is learned, what can not stays at chance, groups stay apart."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from skill_fast.evaluate import probe
from skill_fast.evaluate.probe import (
    Linear,
    NonLinear,
    linear_probe,
    make_split,
    nonlinear_probe,
    probe_scores,
    probe_split,
    summed_loss,
)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(probe, "EPOCHS", 25)


def blobs(n=300, classes=3, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    return rng.normal(size=(classes, dim))[codes] * 4 + rng.normal(size=(n, dim)), codes


def ungrouped(n):
    """Products of no variant group: each is one of its own."""
    return np.full(n, "")


def test_each_probe_gets_the_gradient_it_would_get_alone():
    torch.manual_seed(0)
    rows, labels = torch.randn(7, 5), torch.randint(0, 3, (7,))
    model = Linear(4, 5, 3)
    torch.nn.init.normal_(model.weight)
    summed_loss(model(rows), labels).backward()
    for place in range(4):
        alone = model.weight.detach()[place].double().requires_grad_()
        cross_entropy(rows.double() @ alone, labels).backward()
        torch.testing.assert_close(model.weight.grad[place].double(), alone.grad, rtol=1e-5, atol=1e-6)


def test_a_weight_on_the_loss_is_a_learning_rate():
    torch.manual_seed(0)
    rows, labels = torch.randn(7, 5), torch.randint(0, 3, (7,))
    rates = (0.01, 0.5)
    together = Linear(2, 5, 3)
    optimizer = torch.optim.SGD(together.parameters(), lr=1.0, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        summed_loss(together(rows), labels, rates).backward()
        optimizer.step()
    for place, rate in enumerate(rates):
        weight = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        alone = torch.optim.SGD([weight, bias], lr=rate, momentum=0.9)
        for _ in range(5):
            alone.zero_grad()
            cross_entropy(rows.double() @ weight + bias, labels).backward()
            alone.step()
        torch.testing.assert_close(together.weight[place].double(), weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.bias[place, 0].double(), bias, rtol=1e-4, atol=1e-6)


def test_a_non_linear_probe_is_the_same_alone_and_beside_others():
    torch.manual_seed(0)
    rows = torch.randn(9, 5)
    both = NonLinear(2, 5, 3).eval()
    alone = NonLinear(1, 5, 3).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            alone.hidden[0].get_parameter(name).copy_(both.hidden[0].get_parameter(name)[probe.HIDDEN :])
        alone.weight.copy_(both.weight[1:])
        torch.testing.assert_close(both(rows)[1], alone(rows)[0], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(both(rows)[0], alone(rows)[0], atol=1e-3)


def test_separable_classes_are_learned_by_both():
    vectors, codes = blobs()
    labels = codes.astype(str)
    scores = dict(probe_scores(vectors, labels, np.arange(200), np.arange(200, 300), ungrouped(300)))
    for kind in probe.KINDS:
        assert scores[f"{kind}/accuracy"] > 0.97 and scores[f"{kind}/recall@90"] > 0.97
        for score in ("accuracy", "recall@90", "recall@95/macro", "recall@95/global"):
            assert scores[f"{kind}/{score}"].low <= scores[f"{kind}/{score}"] <= scores[f"{kind}/{score}"].high
    assert scores["test"] == 100 and scores["classes"] == 3


def test_labels_that_the_embedding_does_not_know_stay_at_chance():
    vectors, _ = blobs()
    labels = np.random.default_rng(5).integers(0, 2, 300).astype(str)
    scores = dict(probe_scores(vectors, labels, np.arange(150), np.arange(150, 300), ungrouped(300)))
    # 150 coins: 0.5 within four standard deviations.
    assert abs(scores["linear/accuracy"] - 0.5) < 4 * 0.5 / np.sqrt(150)


def test_only_the_non_linear_probe_learns_a_parity():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1200, 2))
    parity = (vectors[:, 0] * vectors[:, 1] > 0).astype(str)
    split = make_split(vectors, parity, np.arange(1000), np.arange(1000, 1200), ungrouped(1200))
    truth = split.test[1].numpy()
    assert (linear_probe(split, (0,))[0].argmax(axis=1) == truth).mean() < 0.65
    assert (nonlinear_probe(split, (0,))[0].argmax(axis=1) == truth).mean() > 0.85


def test_the_same_seed_gives_the_same_probe_and_leaves_the_generator_alone():
    vectors, codes = blobs(100)
    split = make_split(vectors, codes.astype(str), np.arange(60), np.arange(60, 100), ungrouped(100))
    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(nonlinear_probe(split), nonlinear_probe(split))
    np.testing.assert_array_equal(linear_probe(split, (3,)), linear_probe(split, (3,)))
    assert torch.equal(before, torch.random.get_rng_state())


def test_unlabelled_products_and_unknown_classes_are_dropped():
    labels = np.array(["a", "b"] * 10 + ["", "c", "a", "b", ""])
    vectors = np.random.default_rng(0).normal(size=(25, 4))
    split = make_split(vectors, labels, np.arange(21), np.arange(21, 25), ungrouped(25))
    assert len(split.fit[1]) + len(split.validation[1]) == 20
    assert split.test[1].tolist() == [0, 1] and split.classes == 2


def test_no_variant_group_is_on_both_sides():
    groups = np.repeat(np.array([f"g{place}" for place in range(15)]), 3)
    everything = np.arange(45)
    train, test = probe_split(groups, everything, everything)
    assert not set(groups[train]) & set(groups[test]) and len(train) + len(test) == 45 and len(test) == 9
    bank = np.arange(10, 45)
    train, test = probe_split(groups, np.arange(10), bank)
    assert not set(groups[train]) & set(groups[test]) and len(train) == 33
