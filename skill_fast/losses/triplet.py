"""The supervised triplet loss of colour variants, with semi-hard mining inside a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from skill_fast.losses.contrastive import unit


@dataclass(frozen=True)
class Triplets:
    """What a batch gave: its loss, and how many triplets (device scalars)."""

    loss: Tensor
    mined: Tensor
    """Pairs of anchor and positive for which a negative was found."""
    active: Tensor
    """Of these, the triplets that violate the margin."""


def squared_distances(rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n n"]:
    """``|a / |a| - b / |b||^2`` of all pairs, in [0, 4]."""
    rows = unit(rows)
    return (2 - 2 * rows @ rows.T).clamp_min(0)


def semi_hard_negatives(
    distances: Float[Tensor, "n n"], positive: Bool[Tensor, "n n"], negative: Bool[Tensor, "n n"], margin: float
) -> tuple[Int[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """For each pair (anchor, positive) the negative to use, [n, n] places, and where there is one.

    ::

        the nearest negative with  d(a, p) < d(a, n) < d(a, p) + margin     (semi-hard)

    A pair without such a negative is left out. Source: FaceNet (Schroff et al. 2015), section 3.2; METHOD's choice.
    """
    apart = distances[:, None, :]  # [anchor, 1, n]
    within = distances[:, :, None]  # [anchor, positive, 1]
    fits = negative[:, None, :] & positive[:, :, None] & (apart > within) & (apart < within + margin)
    candidates = torch.where(fits, apart, torch.inf)
    nearest, place = candidates.min(dim=-1)
    return place, nearest < torch.inf


def triplet_loss(
    rows: Float[Tensor, "n dim"], positive: Bool[Tensor, "n n"], negative: Bool[Tensor, "n n"], margin: float = 0.2
) -> Triplets:
    """``mean over mined triplets of max(0, d(a, p) - d(a, n) + margin)``, d squared L2 of unit rows.

    positive, negative: which pairs may be a and p, and a and n. A batch without a triplet has a loss of 0 with a
    gradient of 0. Mining sees no gradient. Memory is n^3: batches of some hundred rows.
    """
    distances = squared_distances(rows)
    with torch.no_grad():
        place, found = semi_hard_negatives(distances, positive, negative, margin)
    terms = (distances - distances.gather(1, place) + margin).clamp_min(0)
    count = found.sum()
    loss = torch.where(found, terms, 0.0).sum() / count.clamp_min(1)
    return Triplets(loss, count, ((terms > 0) & found).sum())
