"""The batch: the contract between the loader and the methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch, ready for the model.

    crops: view group name -> [views, batch, 3, size, size], normalised, on the loader's device, in the loader's dtype.
    """

    crops: Mapping[str, Tensor]
    epoch: int
    step: int
    """Step within the epoch."""
    positions: np.ndarray
    """[batch] int64: place of each sample in the epoch's order."""
    images: np.ndarray
    """[batch, 2] int64: rows of images.parquet shown as x' and x'' (after substitution)."""
    products: np.ndarray
    """[batch] int64: rows of products.parquet."""
    product_types: np.ndarray
    """[batch] int64: place in ``index.product_types``."""
    labels: Mapping[str, Tensor]
    """"group", "color" and "type" -> [batch] int64 on the loader's device for batches of groups; else empty."""
    wait_ms: float
    """How long the caller waited for this batch."""
