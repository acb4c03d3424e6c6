"""Losses of methods without negatives: how far a prediction is from a target that has no gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from skill_fast.losses.contrastive import unit


def negative_cosine(predictions: Float[Tensor, "batch dim"], targets: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``mean of -cos(p, stop_gradient(z))``. Source: SimSiam (Chen and He 2021), equation 1."""
    return -(unit(predictions) * unit(targets).detach()).sum(-1).mean()


def byol_distance(predictions: Float[Tensor, "batch dim"], targets: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``mean of |p / |p| - z / |z||^2 = 2 - 2 cos(p, z)``, no gradient in z. Source: BYOL (Grill et al.), eq. 2."""
    return 2 + 2 * negative_cosine(predictions, targets)
