"""A look at held-out products while a run trains: is the embedding alive, and does it find anything yet?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.data.index import CatalogueIndex
from skill_fast.evaluate.knn import knn_score, why_not_scorable
from skill_fast.evaluate.products import choose_split, group_codes, product_means
from skill_fast.evaluate.retrieval import same_product
from skill_fast.telemetry.collapse import rank_me, unit_std

BATCH_SIZE = 64


class WatchEvery:
    """A look of the training loop: figures of ``backbone`` at the first logged step of every ``every`` steps."""

    def __init__(
        self, held_out: HeldOutWatch, backbone: nn.Module, dtype: torch.dtype, *, every: int, log_every: int
    ) -> None:
        self._held_out, self._backbone, self._dtype = held_out, backbone, dtype
        self._every, self._log_every = every, log_every

    def __call__(self, step: int) -> Mapping[str, float]:
        if step % self._every >= self._log_every:
            return {}
        return self._held_out.figures(self._backbone, self._dtype)

    def close(self) -> None:
        """Nothing is held open."""


class HeldOutWatch:
    """Figures of a backbone on a fixed sample of held-out products; photographs are decoded once and kept.

    The sample: ``products`` products spread evenly over the test split (else over all products), two photographs of
    each. Kept: 2 x products x 3 x crop x crop bytes. mean, std: the run's normalisation.
    """

    def __init__(
        self,
        index: CatalogueIndex,
        *,
        products: int,
        resize: int,
        crop: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        split = choose_split(index, None)
        rows = index.select(None if split == "all" else split)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(products, len(rows))).astype(np.int64))]
        shown = np.minimum(index.images_per_product[rows], 2)
        images = np.concatenate([index.images_of(rows[i : i + 1])[:n] for i, n in enumerate(shown)])
        self._of_image = np.repeat(np.arange(len(rows)), shown)
        self._type_codes = np.asarray(index.product_type[rows])
        self._type_names = index.product_types
        self._groups = group_codes(index.column("variant_group")[rows])
        loader = EvaluationLoader(index, images, resize=resize, crop=crop, batch_size=BATCH_SIZE)
        self._pixels = torch.cat([(photographs * 255).round().byte() for _, photographs in loader])
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        self._device = device

    def figures(self, backbone: nn.Module, dtype: torch.dtype) -> dict[str, float]:
        """The figures by name; the backbone evaluates, and then goes on in the mode it was in.

        watch/rank (RankMe), watch/std (``unit_std``), watch/center_norm (length of the mean unit embedding: 1 where all
        point the same way), watch/recall@1 (same product) and the same of every type, watch/knn_type.
        """
        embeddings = self._embed(backbone, dtype)
        unit = torch.nn.functional.normalize(embeddings, dim=-1, eps=1e-6)
        found = {
            "watch/rank": float(rank_me(embeddings)),
            "watch/std": float(unit_std(embeddings)),
            "watch/center_norm": float(unit.mean(0).norm()),
        }
        return found | self._scores(unit.numpy())

    def _scores(self, embeddings: np.ndarray) -> dict[str, float]:
        found: dict[str, float] = {}
        whole = same_product(embeddings, self._of_image)
        if whole is not None:
            found["watch/recall@1"] = whole.recall[1]
        types = self._type_codes[self._of_image]
        for code in np.unique(types) if len(np.unique(types)) > 1 else ():
            mine = types == code
            part = same_product(embeddings[mine], self._of_image[mine])
            if part is not None:
                found[f"watch/recall@1/{self._type_names[code] or 'untyped'}"] = part.recall[1]
        names = np.array([self._type_names[code] for code in self._type_codes], dtype=str)
        everyone = np.arange(len(names))
        if not why_not_scorable(names, everyone, everyone):
            means = product_means(embeddings, self._of_image)
            found["watch/knn_type"] = knn_score(means, names, self._groups, everyone, everyone).accuracy
        return found

    @torch.no_grad()
    def _embed(self, backbone: nn.Module, dtype: torch.dtype) -> Tensor:
        trains = backbone.training
        backbone.eval()
        batches = []
        for pixels in self._pixels.split(BATCH_SIZE):
            images = (pixels.float() / 255 - self._mean) / self._std
            batches.append(backbone(images.to(self._device, dtype)).float().cpu())
        backbone.train(trains)
        return torch.cat(batches)
