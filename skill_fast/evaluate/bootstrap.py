"""Bootstrap intervals: what a score would be on other products, by drawing the same number of them with replacement.

The draws depend on the number of units and nothing else. Two runs scored on the same data see the same draws, so the
difference of their replicates is a paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

RESAMPLES = 1000
FEW_RESAMPLES = 200
MANY_UNITS = 50_000
"""Units above which 200 draws do: the interval is narrow, and each draw costs its length."""
KEPT_COUNTS = 20_000_000
"""Largest table of draws that is kept for the next score (bytes)."""
BLOCK_ROWS = 100
LEVEL = 0.95


class Estimate(float):
    """A score that knows its bootstrap replicates; in every other respect a float."""

    replicates: np.ndarray
    """[resamples] float64."""

    def __new__(cls, value: float, replicates: np.ndarray) -> Estimate:
        self = super().__new__(cls, value)
        self.replicates = np.asarray(replicates, dtype=np.float64)
        return self

    @property
    def low(self) -> float:
        return percentile_interval(self.replicates)[0]

    @property
    def high(self) -> float:
        return percentile_interval(self.replicates)[1]


def percentile_interval(replicates: np.ndarray) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of [resamples] replicates (Efron 1979)."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def draws(units: int) -> Iterator[np.ndarray]:
    """Blocks [some, units] of how often each unit was drawn; a row sums to ``units``.

    1,000 rows in all, or 200 above ``MANY_UNITS``.
    """
    resamples = RESAMPLES if units <= MANY_UNITS else FEW_RESAMPLES
    if units * resamples <= KEPT_COUNTS:
        kept = _kept_draws(units, resamples)
        yield from (kept[start : start + BLOCK_ROWS] for start in range(0, resamples, BLOCK_ROWS))
        return
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield _draw(units, rng)[None]


@lru_cache(maxsize=8)
def _kept_draws(units: int, resamples: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    counts = np.stack([_draw(units, rng) for _ in range(resamples)]).astype(np.uint8)
    counts.flags.writeable = False
    return counts


def _draw(units: int, rng: np.random.Generator) -> np.ndarray:
    # uint8: 256 draws of one unit do not happen.
    return np.bincount(rng.integers(0, units, units), minlength=units).clip(0, 255)


def resampled_ratios(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """[resamples, scores] replicates of sum(above) / sum(below) over units; 0 where nothing was drawn below.

    above, below [units, scores] or [units]: a mean over products has 1 below, a mean over photographs a product's
    count of them.
    """
    above, below = (part[:, None] if part.ndim == 1 else part for part in (above, below))
    both = np.concatenate([above, np.broadcast_to(below, above.shape)], axis=1).astype(np.float64)
    sums = np.concatenate([block @ both for block in (counts.astype(np.float64) for counts in draws(len(both)))])
    top, bottom = np.split(sums, 2, axis=1)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def mean_of(values: np.ndarray) -> Estimate:
    """The mean of [units] values with its replicates. Raises ValueError without a unit."""
    return ratio_of(values, np.ones(len(values)))


def ratio_of(above: np.ndarray, below: np.ndarray) -> Estimate:
    """sum(above) / sum(below) over [units] with its replicates. Raises ValueError without a unit."""
    if len(above) == 0:
        raise ValueError("a mean of no units")
    total = float(np.sum(below))
    value = float(np.sum(above, dtype=np.float64)) / total if total > 0 else 0.0
    return Estimate(value, resampled_ratios(np.asarray(above), np.asarray(below))[:, 0])


def centred(value: float, replicates: np.ndarray) -> Estimate:
    """An estimate whose replicates are moved so that their median is the value.

    For scores that are no means (entropies, pair counts): a draw holds copies and so fewer different units, which moves
    all replicates to one side.
    """
    replicates = np.asarray(replicates, dtype=np.float64)
    return Estimate(value, replicates + (value - np.median(replicates)))
