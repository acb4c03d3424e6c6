"""The two photographs of each position, read and checked, with a fixed rule for what stands in for a bad one."""

from __future__ import annotations

import numpy as np

from skill_fast.data.group_sampler import GroupSampler
from skill_fast.data.plan import Planner
from skill_fast.data.reader import Reader, Tally
from skill_fast.data.sampler import Sampler
from skill_fast.errors import TooMuchSkipped


class PairSource:
    """Reads x' and x'' for positions of an epoch.

    A bad photograph is replaced by the next usable one of its product, in the order of its views, going round; x''
    stays another one than x' as long as there is another. A product without any usable photograph is replaced, both
    photographs, by what stands at the next position of the epoch. The outcome depends on which photographs are bad,
    not on when that was found out, nor by which rank.
    """

    def __init__(self, sampler: Sampler | GroupSampler, planner: Planner, reader: Reader, *, second: bool) -> None:
        """second: whether any view shows x''; where none does it is not read, and stands for x' in ``images``."""
        self._sampler, self._planner, self._reader, self._second = sampler, planner, reader, second

    @property
    def photographs(self) -> int:
        return 2 if self._second else 1

    def read(self, epoch: int, positions: np.ndarray) -> tuple[np.ndarray, list[list[np.ndarray]], list[Tally]]:
        """Rows [n, 2] int64 of the photographs shown; their bytes: for x' and for x'' a list of [size] uint8; what was
        read for each position, to be settled when it is used."""
        wanted, tallies = self._wanted(epoch, positions), [Tally() for _ in positions]
        pairs = [
            self._pair(epoch, int(position), first, second, tally)
            for position, (first, second), tally in zip(positions, wanted.tolist(), tallies)
        ]
        images = np.array([shown for shown, _ in pairs], dtype=np.int64).reshape(-1, 2)
        return images, [[jpegs[i] for _, jpegs in pairs] for i in range(self.photographs)], tallies

    def _wanted(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        first = self._sampler.images_at(epoch, positions)
        second = self._planner.second_photographs(epoch, positions, first) if self._second else first
        return np.stack([first, second], axis=1)

    def _pair(
        self, epoch: int, position: int, first: int, second: int, tally: Tally
    ) -> tuple[tuple[int, int], list[np.ndarray]]:
        for later in range(self._sampler.photographs):
            if later:
                first, second = self._wanted(epoch, np.array([position + later]))[0].tolist()
            failed: set[int] = set()
            x1 = self._first_usable(self._from(first), failed, epoch, position, tally)
            if x1 is None:
                continue
            if not self._second:
                return (x1[0], x1[0]), [x1[1]]
            others = [image for image in self._from(second) if image != x1[0]]
            x2 = self._first_usable(others, failed, epoch, position, tally) or x1
            return (x1[0], x2[0]), [x1[1], x2[1]]
        raise TooMuchSkipped(
            "not one photograph of the selected products can be used", change="run skill-shards verify on the folder"
        )

    def _from(self, image: int) -> list[int]:
        """The photographs of the same product: this one, those after it, then those before it."""
        index = self._reader.index
        product = index.product[image]
        start, count = int(index.first_image[product]), int(index.images_per_product[product])
        return [start + (image - start + i) % count for i in range(count)]

    def _first_usable(
        self, images: list[int], failed: set[int], epoch: int, position: int, tally: Tally
    ) -> tuple[int, np.ndarray] | None:
        for image in images:
            if image not in failed:
                jpeg = self._reader.read(image, epoch=epoch, position=position, tally=tally)
                if jpeg is not None:
                    return image, jpeg
                failed.add(image)
        return None
