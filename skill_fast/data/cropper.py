"""Batches under way: fed to the pixel graph, fetched as tensors, and mended where a photograph can not be decoded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skill_fast.data.dali import PixelGraph, device_id, to_torch, undecodable
from skill_fast.data.pairs import PairSource
from skill_fast.data.pipeline import crop_graph, crop_inputs
from skill_fast.data.plan import CropPlan, Planner
from skill_fast.data.reader import Reader, Tally


@dataclass(frozen=True)
class GraphOptions:
    """What ``crop_graph`` needs to know besides the views."""

    batch_size: int
    threads: int
    depth: int
    hw_decoder_load: float
    dtype: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass
class Package:
    """A batch that is read and planned."""

    epoch: int
    positions: np.ndarray
    images: np.ndarray
    jpegs: list[list[np.ndarray]]
    tallies: list[Tally]
    """What was read for each position; for ``Reader.settle``, once the batch is used."""
    plans: dict[str, CropPlan]


class Cropper:
    """Turns positions of an epoch into crops, ``options.depth`` batches at a time under way.

    A photograph that the decoder refuses makes the pipeline invalid for good, and with it the batches behind: the
    photograph is found, marked as bad, its position read again (another photograph stands in), and all batches
    under way start again in a new pipeline. So what comes out is the same as if the photograph had been known to be
    bad before.
    """

    def __init__(
        self, pairs: PairSource, planner: Planner, reader: Reader, options: GraphOptions, device: torch.device
    ) -> None:
        self._pairs, self._planner, self._reader, self._options = pairs, planner, reader, options
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ops = {
            "bends": any(recipe.bends for recipe in planner.recipes),
            "erases": any(recipe.erases for recipe in planner.recipes),
        }
        self._flying: deque[Package] = deque()
        self._graph = self._new_graph()

    @property
    def full(self) -> bool:
        """Whether as many batches are under way as may be: the next thing to do is ``collect``."""
        return len(self._flying) >= self._options.depth

    def submit(self, epoch: int, positions: np.ndarray) -> None:
        """Read and plan a batch, and start on its pixels."""
        package = self._package(epoch, positions)
        self._flying.append(package)
        try:
            self._graph.submit(self._inputs(package))
        except RuntimeError as error:
            self._mend(error)

    def collect(self) -> tuple[Package, dict[str, Tensor]]:
        """The oldest batch and its crops by view group, [views, batch, 3, size, size]."""
        while True:
            try:
                outputs = self._graph.collect(self._stream)
                break
            except RuntimeError as error:
                self._mend(error)
        counts = [group.views for group in self._planner.groups]
        crops = to_torch(outputs, counts, self._options.dtype, self._stream)
        self._graph.release()
        return self._flying.popleft(), {group.name: crop for group, crop in zip(self._planner.groups, crops)}

    def _new_graph(self) -> PixelGraph:
        o = self._options
        return crop_graph(
            self._planner.groups,
            o.batch_size,
            photographs=self._pairs.photographs,
            mean=o.mean,
            std=o.std,
            dtype=o.dtype,
            threads=o.threads,
            depth=o.depth,
            device_id=device_id(self._device),
            hw_decoder_load=o.hw_decoder_load,
            bends=self._ops["bends"],
            erases=self._ops["erases"],
        )

    def _package(self, epoch: int, positions: np.ndarray) -> Package:
        images, jpegs, tallies = self._pairs.read(epoch, positions)
        return Package(epoch, positions, images, jpegs, tallies, self._planner.crops(epoch, positions, images))

    def _inputs(self, package: Package) -> dict[str, Any]:
        return crop_inputs(self._planner.groups, package.plans, package.jpegs, **self._ops)

    def _mend(self, error: RuntimeError) -> None:
        bad = [self._undecodable(package) for package in self._flying]
        if not any(b.any() for b in bad):
            raise error
        for package, cells in zip(self._flying, bad):
            for image in np.unique(package.images[:, : self._pairs.photographs][cells]):
                self._reader.mark_bad(int(image), "undecodable", "the decoder refuses it")
        for package, cells in zip(self._flying, bad):
            if cells.any():
                self._read_again(package, cells.any(axis=1))
        self._graph = self._new_graph()
        for package in self._flying:
            self._graph.submit(self._inputs(package))

    def _undecodable(self, package: Package) -> np.ndarray:
        """[batch, photographs] bool."""
        bad = np.zeros((len(package.positions), len(package.jpegs)), dtype=bool)
        for i, jpegs in enumerate(package.jpegs):
            o = self._options
            decoder: dict[str, Any] = {"threads": o.threads, "hw_decoder_load": o.hw_decoder_load}
            places = undecodable(jpegs, device_id=device_id(self._device), **decoder)
            bad[places, i] = True
        return bad

    def _read_again(self, package: Package, rows: Any) -> None:
        package.images[rows], jpegs, tallies = self._pairs.read(package.epoch, package.positions[rows])
        for row, tally in zip(np.flatnonzero(rows), tallies):
            package.tallies[row] = tally  # the first reading is forgotten: it counts as if the fault had been known
        for old, new in zip(package.jpegs, jpegs):
            for row, jpeg in zip(np.flatnonzero(rows), new):
                old[row] = jpeg
        package.plans = self._planner.crops(package.epoch, package.positions, package.images)
