"""Contrastive losses: NT-Xent over a batch, InfoNCE against a queue. Computed in float32 whatever comes in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6  # against 0 / 0, and not rounded away in half precision


def unit(rows: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """Rows at L2 norm 1, float32 (float64 stays)."""
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=-1, eps=EPSILON)


def nt_xent(
    first: Float[Tensor, "batch dim"],
    second: Float[Tensor, "batch dim"],
    temperature: float,
    every_first: Float[Tensor, "all_rows dim"] | None = None,
    every_second: Float[Tensor, "all_rows dim"] | None = None,
    place: int = 0,
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross-entropy of two views, negatives from all ranks.

    ::

        z = all first rows, then all second rows, at norm 1          N: rows of all ranks
        loss = mean over this rank's 2 batch rows i of  -log( exp(z_i z_j / T) / sum over k != i of exp(z_i z_k / T) )
        j: the other view of i's sample

    every_first, every_second: the gathered rows (default: those of this rank); place: where this rank's begin.
    Source: SimCLR (Chen et al. 2020), equation 1.
    """
    every_first = first if every_first is None else every_first
    every_second = second if every_second is None else every_second
    mine = unit(torch.cat([first, second]))
    total = every_first.shape[0]
    logits = mine @ unit(torch.cat([every_first, every_second])).T / temperature
    own = place + torch.arange(first.shape[0], device=first.device)
    itself, partner = torch.cat([own, own + total]), torch.cat([own + total, own])
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return F.cross_entropy(logits, partner)


def info_nce(
    queries: Float[Tensor, "batch dim"],
    keys: Float[Tensor, "batch dim"],
    negatives: Float[Tensor, "queue dim"],
    temperature: float,
) -> Float[Tensor, ""]:
    """``mean of -log( exp(q k / T) / (exp(q k / T) + sum over n of exp(q n / T)) )``, all rows at norm 1.

    keys get no gradient; negatives are a queue of earlier keys. Source: MoCo (He et al. 2020), equation 1.
    """
    queries, keys = unit(queries), unit(keys).detach()
    positive = (queries * keys).sum(-1, keepdim=True)
    logits = torch.cat([positive, queries @ unit(negatives).to(queries.dtype).T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
