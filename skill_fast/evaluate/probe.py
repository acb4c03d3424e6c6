"""Attribute probes on frozen product embeddings: SkiLL's accuracy, R@90 and R@95, linear and non-linear.

The learning rates of a sweep and the seeds are probes of one batch: one pass over the products trains them all.
Optimizers, sizes and epochs are METHOD's choices, the paper names none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skill_fast.evaluate.bootstrap import centred, mean_of
from skill_fast.evaluate.products import group_codes
from skill_fast.evaluate.recall_at_precision import recall_at_precision, resampled_recall_at_precision

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SEEDS = (0, 1, 2)
EPOCHS = 100
PATIENCE = 10
BATCH = 256
HIDDEN = 512
HELD_BACK = 0.1
"""Share of the training products that choose the learning rate and the epoch, by whole variant groups."""
PRECISIONS = (0.90, 0.95)
KINDS = ("linear", "nonlinear")


@dataclass(frozen=True)
class Split:
    """One attribute's products: fit and validation train, test is scored. Rows are standardised by fit's moments."""

    fit: tuple[Tensor, Tensor]
    """[n, D] float32 and [n] int64 labels."""
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


def make_split(
    embeddings: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> Split:
    """Drop products without the label, and test products whose class was never trained on; hold back a tenth.

    embeddings [products, D]; labels, groups [products] str ("" where unknown); train and test: places.
    """
    train, test = train[labels[train] != ""], test[labels[test] != ""]
    names, trained = np.unique(labels[train], return_inverse=True)
    test = test[np.isin(labels[test], names)]
    held, fit = _hold_back(group_codes(groups[train]))
    mean, std = embeddings[train[fit]].mean(axis=0), embeddings[train[fit]].std(axis=0)

    def part(places: np.ndarray, codes: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = (embeddings[places] - mean) / np.maximum(std, 1e-6)
        return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(codes.astype(np.int64))

    return Split(
        part(train[fit], trained[fit]),
        part(train[held], trained[held]),
        part(test, np.searchsorted(names, labels[test])),
        len(names),
    )


def _hold_back(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(held back, fitted) places: groups drawn until they are a tenth of the products, none of them on both sides.

    A colour variant among the fitted products would choose the epoch that knows it by heart. A group that is all there
    is, is divided by product. codes [n] int.
    """
    rng = np.random.default_rng(0)
    _, group, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    if len(sizes) == 1:
        group, sizes = np.arange(len(codes)), np.ones(len(codes), dtype=np.int64)
    order, wanted = rng.permutation(len(sizes)), max(1, round(HELD_BACK * len(codes)))
    count = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    held = np.isin(group, order[: min(count, len(sizes) - 1)])
    return np.flatnonzero(held), np.flatnonzero(~held)


class Linear(nn.Module):
    """[n, D] -> [probes, n, classes]; probes of the learning rates x seeds, each zero at the start."""

    def __init__(self, probes: int, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(probes, features, classes))
        self.bias = nn.Parameter(torch.zeros(probes, 1, classes))

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.weight + self.bias


class NonLinear(nn.Module):
    """D-512-C with BN, ReLU and dropout .2, a probe per seed: [n, D] -> [probes, n, classes].

    One wide hidden layer holds the probes side by side: batch norm, ReLU and AdamW act on every unit by itself, so the
    probes do not touch.
    """

    def __init__(self, probes: int, features: int, classes: int) -> None:
        super().__init__()
        wide = probes * HIDDEN
        self.hidden = nn.Sequential(nn.Linear(features, wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Dropout(0.2))
        limit = HIDDEN**-0.5
        self.weight = nn.Parameter(torch.empty(probes, HIDDEN, classes).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(probes, 1, classes))

    def forward(self, rows: Tensor) -> Tensor:
        units = self.hidden(rows).unflatten(1, (len(self.weight), HIDDEN)).transpose(0, 1)
        return units @ self.weight + self.bias


def summed_loss(logits: Tensor, labels: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Sum over probes of weight x mean cross entropy (weights 1 by default): each probe gets its own gradient.

    logits [probes, n, classes] float, labels [n] int64.
    """
    probes, n, classes = logits.shape
    losses = cross_entropy(logits.reshape(-1, classes), labels.repeat(probes), reduction="none")
    means = losses.view(probes, n).mean(dim=1)
    return means.sum() if weights is None else means @ means.new_tensor(weights)


def merits(model: nn.Module, part: tuple[Tensor, Tensor]) -> Tensor:
    """[probes] float64: products named right, and of equals the smaller mean loss l: right - l / (1 + l).

    Validation sets are small and ties common: the first of equal learning rates would be one that hardly moved.
    """
    model.eval()
    with torch.no_grad():
        logits = model(part[0]).double()
    right = (logits.argmax(dim=2) == part[1]).sum(dim=1)
    loss = torch.stack([cross_entropy(each, part[1]) for each in logits])
    return right - loss / (1 + loss)


def probabilities(model: nn.Module, rows: Tensor) -> Tensor:
    """[probes, n, classes] float."""
    model.eval()
    with torch.no_grad():
        return model(rows).softmax(dim=2)


def batches(part: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of one epoch; batches are nearly equal, so none has the one row that batch norm refuses."""
    order = torch.randperm(len(part[1]))
    for places in order.tensor_split(max(1, round(len(order) / BATCH))):
        yield part[0][places], part[1][places]


def linear_probe(split: Split, seeds: tuple[int, ...] = SEEDS) -> np.ndarray:
    """[seeds, test, classes]: one layer, SGD .9, cosine over 100 epochs, each seed's best rate by validation.

    A seed orders the products; the rates of one seed see the same batches.
    """
    found = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Linear(len(LEARNING_RATES), split.fit[0].shape[1], split.classes)
            # SGD with momentum and no decay is linear in the gradient: a weight on a loss is that probe's rate.
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
            for _ in range(EPOCHS):
                for rows, labels in batches(split.fit):
                    optimizer.zero_grad()
                    summed_loss(model(rows), labels, LEARNING_RATES).backward()
                    optimizer.step()
                schedule.step()
        best = int(merits(model, split.validation).argmax())
        found.append(probabilities(model, split.test[0])[best].numpy())
    return np.stack(found)


def nonlinear_probe(split: Split, seeds: tuple[int, ...] = SEEDS) -> np.ndarray:
    """[seeds, test, classes]: D-512-C, AdamW 1e-3, each seed's best epoch by validation, at most 100.

    The seeds draw their own weights and share the order of the products; training ends when none has improved for 10
    epochs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        model = NonLinear(len(seeds), split.fit[0].shape[1], split.classes)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        best = torch.full((len(seeds),), -1.0, dtype=torch.float64)
        kept = torch.zeros(len(seeds), len(split.test[1]), split.classes)
        idle = 0
        for _ in range(EPOCHS):
            model.train()
            for rows, labels in batches(split.fit):
                optimizer.zero_grad()
                summed_loss(model(rows), labels).backward()
                optimizer.step()
            now = merits(model, split.validation)
            better = now > best
            if better.any():
                kept[better] = probabilities(model, split.test[0])[better]
            best, idle = torch.maximum(best, now), 0 if better.any() else idle + 1
            if idle == PATIENCE:
                break
    return kept.numpy()


def probe_split(groups: np.ndarray, queries: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) places that share no variant group: bank and queries, or four fifths and one fifth of the groups.

    A group's colour variants would give its pattern away.
    """
    codes = group_codes(groups)
    if not np.array_equal(queries, bank):
        return bank[~np.isin(codes[bank], codes[queries])], queries
    names = np.unique(codes[queries])
    asked = np.random.default_rng(0).permutation(names)[: max(1, len(names) // 5)]
    test = np.isin(codes[queries], asked)
    return queries[~test], queries[test]


def probe_scores(
    embeddings: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> Iterator[tuple[str, float]]:
    """(name, value) of both probes on one attribute; every score is the mean over the seeds, drawn over products."""
    split = make_split(embeddings, labels, train, test, groups)
    truth = split.test[1].numpy()
    for kind, run in (("linear", linear_probe), ("nonlinear", nonlinear_probe)):
        found = run(split)
        yield f"{kind}/accuracy", mean_of((found.argmax(axis=2) == truth).mean(axis=0))
        drawn = np.mean([resampled_recall_at_precision(each, truth, PRECISIONS) for each in found], axis=0)
        for place, precision in enumerate(PRECISIONS):
            parts = [recall_at_precision(each, truth, precision) for each in found]
            for average, (ending, name) in enumerate((("", "weighted"), ("/macro", "macro"), ("/global", "pooled"))):
                value = float(np.mean([getattr(part, name) for part in parts]))
                yield f"{kind}/recall@{precision * 100:.0f}{ending}", centred(value, drawn[:, place, average])
    yield "majority", float(np.bincount(truth, minlength=split.classes).max() / len(truth))
    yield from (("classes", split.classes), ("train", len(split.fit[1])), ("test", len(truth)))
