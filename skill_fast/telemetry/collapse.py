"""Figures that tell a collapsed encoder from a living one, and the warning in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

COLLAPSED_RANK = 2.0
COLLAPSED_STD = 0.1
COLLAPSED_KL = 1e-3


def unit_std(rows: Tensor) -> Tensor:
    """Spread of [n, dim] rows: sqrt(dim) x the mean over dimensions of the std of the unit rows, a [] tensor.

    1 for rows that point everywhere alike, 0 for rows that are all the same. Source: SimSiam (Chen, He 2021), fig 2.
    """
    rows = torch.nn.functional.normalize(rows.detach().float(), dim=-1, eps=1e-6)
    return rows.std(dim=0, correction=0).mean() * math.sqrt(rows.shape[-1])


def rank_me(rows: Tensor) -> Tensor:
    """Effective number of dimensions that [n, dim] rows use, a [] tensor in [1, min(n, dim)].

    ``exp(-sum p_i ln p_i)``, p the singular values over their sum (plus 1e-7). The rows are not centred.
    Source: RankMe (Garrido et al. 2023), equation 1.
    """
    values = torch.linalg.svdvals(rows.detach().float())
    p = values / values.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(p * p.log()).sum())


def verdict(figures: Mapping[str, float], method: str = "skill") -> str:
    """What is wrong and what to try, in words; "" where nothing looks collapsed.

    figures, each optional: rank (RankMe of held-out embeddings), std (``unit_std`` of them), projection_std (of a
    batch's projections), teacher_entropy and kl in nats, prototypes. method: whose options are named. Rules, in order::

        teacher_entropy > ln(prototypes) - 0.01                     every output is uniform
        teacher_entropy < 0.01 and kl < 0.001                       every output is one prototype
        std < 0.1 or rank < 2                                       all embeddings point the same way
        projection_std < 0.1                                        all projections do
    """
    entropy, kl = figures.get("teacher_entropy"), figures.get("kl", math.inf)
    most = math.log(figures["prototypes"]) if "prototypes" in figures else math.inf
    if entropy is not None and entropy > most - 0.01:
        return (
            "the teacher's outputs are uniform: try a lower --optimizer.final-teacher-temp, a higher "
            f"--{method}.center-momentum, or a slower teacher (--optimizer.ema-momentum 0.9995)"
        )
    if entropy is not None and kl < COLLAPSED_KL and entropy < 0.01:
        sinkhorn = ", or --skill.centering sinkhorn" if method == "skill" else ""
        return (
            "the teacher gives every photograph to one prototype: try a higher --optimizer.final-teacher-temp"
            f"{',' if sinkhorn else ' or'} a lower --{method}.center-momentum{sinkhorn}"
        )
    embeddings = figures.get("std", 1.0) < COLLAPSED_STD or figures.get("rank", math.inf) < COLLAPSED_RANK
    if embeddings or figures.get("projection_std", 1.0) < COLLAPSED_STD:
        return (
            f"the {'embeddings' if embeddings else 'projections'} point nearly the same way: try a lower "
            "--optimizer.lr, a longer --optimizer.warmup-epochs, a larger batch, or --backbone.init fan_in for narrow "
            "transformers"
        )
    return ""


class CollapseWatch:
    """Reads a run's rows as they are logged and says a collapse once, until it is over.

    A figure counts until its next value: held-out products are looked at less often than rows are logged. method: whose
    options the words name.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._seen: dict[str, float] = {}
        self._collapsed = False

    def __call__(self, row: Mapping[str, Any]) -> str:
        """What to say of a row of metrics.jsonl ("watch/rank", "projection_std", ...); "" for nothing new."""
        self._seen |= {name.removeprefix("watch/"): value for name, value in row.items() if value is not None}
        wrong = verdict(self._seen, self._method)
        new = bool(wrong) and not self._collapsed
        self._collapsed = bool(wrong)
        return wrong if new else ""
