"""Photographs for evaluation: each one once, in the order asked for, resized and cut from the centre."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skill_fast.data.dali import device_id, evaluation_graph, to_torch, undecodable
from skill_fast.data.index import CatalogueIndex
from skill_fast.data.reader import Reader
from skill_fast.errors import BadData, BadUsage

DEPTH = 2
SHARDS_AHEAD = 2


class EvaluationLoader:
    """Iterates over (rows [n] int64, photographs [n, 3, crop, crop] float32 in [0, 1]) in the order of ``image_rows``.

    The shorter side is resized to ``resize`` (bicubic, antialiased), a square of ``crop`` is cut from the centre,
    with torchvision's rounding; the last batch may be smaller. Raises BadData naming the first photograph whose
    bytes are not those of the index or that can not be decoded: a result over an unknown part of the photographs
    would not be one.
    """

    def __init__(
        self,
        index: CatalogueIndex,
        image_rows: np.ndarray,
        *,
        resize: int = 256,
        crop: int = 224,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        threads: int = 2,
        hw_decoder_load: float = 0.65,
    ) -> None:
        if not 1 <= crop <= resize:
            raise BadUsage(f"resize {resize} with crop {crop}", allowed="a crop from 1 to resize pixels")
        self.index, self.image_rows = index, np.asarray(image_rows, dtype=np.int64)
        self._resize, self._crop, self._batch_size = resize, crop, batch_size
        self._device, self._threads = torch.device(device), threads
        self._decoder: dict[str, Any] = {"device_id": device_id(self._device), "hw_decoder_load": hw_decoder_load}

    def __len__(self) -> int:
        """Batches."""
        return -(-len(self.image_rows) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        depth = min(DEPTH, len(self))
        if depth == 0:
            return
        graph = evaluation_graph(self._batch_size, self._crop, threads=self._threads, depth=depth, **self._decoder)
        stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        reader, order = Reader(self.index), list(dict.fromkeys(self.index.shard[self.image_rows].tolist()))
        flying: deque[tuple[np.ndarray, list[np.ndarray]]] = deque()
        try:
            for start in range(0, len(self.image_rows), self._batch_size):
                rows = self.image_rows[start : start + self._batch_size]
                self._look_ahead(reader, rows, order)
                jpegs = [self._read(reader, int(row)) for row in rows]
                flying.append((rows, jpegs))
                graph.submit({"jpeg/0": jpegs, **self._placement(rows)})
                if len(flying) == depth:
                    yield self._collect(graph, flying, stream)
            while flying:
                yield self._collect(graph, flying, stream)
        finally:
            reader.close()

    def _look_ahead(self, reader: Reader, rows: np.ndarray, order: list[int]) -> None:
        """Have the shards fetched that these rows lie in, then the next ones in the order of first need."""
        now = list(dict.fromkeys(self.index.shard[rows].tolist()))
        last = max(order.index(shard) for shard in now)
        reader.shards.want(now, order[last + 1 : last + 1 + SHARDS_AHEAD])

    def _read(self, reader: Reader, row: int) -> np.ndarray:
        jpeg = reader.read(row)
        if jpeg is None:
            crc32 = reader.bad[row] == "crc32"
            raise self._unusable(row, "its crc32 is not that of the index" if crc32 else "it can not be decoded")
        return jpeg

    def _placement(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The size of each resized photograph, and where the crop lies as a share of the room it has."""
        height, width = self.index.height[rows].astype(np.int64), self.index.width[rows].astype(np.int64)
        shorter = np.minimum(height, width)
        resized = np.stack([self._resize * height // shorter, self._resize * width // shorter], axis=1)
        room = resized - self._crop
        share = np.where(room > 0, np.rint(room / 2) / np.maximum(room, 1), 0.0).astype(np.float32)
        return {"resized": resized.astype(np.float32), "crop_y": share[:, 0].copy(), "crop_x": share[:, 1].copy()}

    def _collect(
        self, graph: Any, flying: deque[tuple[np.ndarray, list[np.ndarray]]], stream: torch.cuda.Stream | None
    ) -> tuple[np.ndarray, Tensor]:
        try:
            outputs = graph.collect(stream)
        except RuntimeError as error:
            for rows, jpegs in flying:
                for place in undecodable(jpegs, threads=self._threads, **self._decoder):
                    raise self._unusable(int(rows[place]), "it can not be decoded") from error
            raise
        [photographs] = to_torch(outputs, [1], "float32", stream)
        graph.release()
        if stream is not None:  # made on that stream, used on the caller's
            photographs.record_stream(torch.cuda.current_stream(self._device))
        return flying.popleft()[0], photographs[0]

    def _unusable(self, row: int, why: str) -> BadData:
        return BadData(
            f"{self.index.describe(row)} can not be used: {why}",
            allowed="photographs as skill-shards build wrote them",
            change="run skill-shards verify on the folder; build it again",
        )
