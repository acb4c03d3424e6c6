"""DALI's pipelines as the loader runs them: fed batch by batch, working ahead, handed to torch; decoding alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, types
from torch import Tensor

WHITE = [255.0, 255.0, 255.0]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SEARCHED = 32
"""Photographs that are decoded together in the search for one that can not be."""


class PixelGraph:
    """A DALI pipeline that is fed batch by batch and works ``depth`` batches ahead.

    ``submit`` queues a batch, ``collect`` waits for the oldest. The first ``depth`` batches start together, so at
    least that many have to be submitted before the first is collected. After a RuntimeError of ``collect`` or
    ``submit`` (a photograph that can not be decoded) the pipeline is invalid for good: make a new one.
    """

    def __init__(self, pipeline: Pipeline, depth: int) -> None:
        self._pipeline, self._depth, self._submitted = pipeline, depth, 0
        pipeline.build()

    def submit(self, inputs: Mapping[str, Any]) -> None:
        """Queue one batch: input name -> array [batch, ...] or list of arrays."""
        for name, data in inputs.items():
            self._pipeline.feed_input(name, data)
        self._submitted += 1
        if self._submitted >= self._depth:
            self._pipeline.schedule_run()

    def collect(self, cuda_stream: Any = None) -> list[Any]:
        """The oldest batch's outputs as DALI tensors, on the given stream's order; valid until ``release``."""
        return [output.as_tensor() for output in self._pipeline.share_outputs(cuda_stream)]

    def release(self) -> None:
        self._pipeline.release_outputs()


def to_torch(
    outputs: Sequence[Any], counts: Sequence[int], dtype: str, stream: torch.cuda.Stream | None = None
) -> list[Tensor]:
    """Outputs gathered ``counts`` at a time into tensors [count, batch, ...] that own their memory, on DALI's device.

    On a GPU the tensors are complete on return, and made known to the caching allocator as the given stream's.
    """
    views = iter(outputs)
    if stream is None:
        return [
            torch.from_numpy(np.stack([np.asarray(next(views)) for _ in range(n)])).to(DTYPES[dtype]) for n in counts
        ]
    with torch.cuda.stream(stream):
        gathered = [torch.stack([torch.from_dlpack(next(views)) for _ in range(n)]).to(DTYPES[dtype]) for n in counts]
    stream.synchronize()  # DALI takes its buffers back after this; only the loader's own thread waits
    return gathered


def device_id(device: torch.device) -> int | None:
    """DALI's number of a torch device; None is the CPU."""
    if device.type != "cuda":
        return None
    return device.index if device.index is not None else torch.cuda.current_device()


def output_type(dtype: str, device_id: int | None) -> types.DALIDataType:
    """What DALI hands over for ``dtype``: half precision only on a GPU, and only float16.

    It has no bfloat16, and writes float16 on a CPU at half the speed of float32; torch casts both, rounding once.
    """
    half = dtype == "float16" and device_id is not None
    return types.DALIDataType.FLOAT16 if half else types.DALIDataType.FLOAT


def evaluation_graph(
    batch_size: int, crop: int, *, threads: int, depth: int, device_id: int | None, hw_decoder_load: float
) -> PixelGraph:
    """Decode, resize to ``resized``, cut [3, crop, crop] float32 in [0, 1] out at ``crop_y``, ``crop_x`` (0 to 1)."""
    pipeline = _pipeline(batch_size, threads, depth, device_id)
    with pipeline:
        image = fn.resize(
            decode("jpeg/0", device_id, hw_decoder_load),
            size=fn.external_source(name="resized"),
            interp_type=types.DALIInterpType.INTERP_CUBIC,
            antialias=True,
        )
        pipeline.set_outputs(
            fn.crop_mirror_normalize(
                image,  # type: ignore[arg-type]  # DALI 2.4's stub of resize promises less than resize returns
                crop=(crop, crop),
                crop_pos_y=fn.external_source(name="crop_y"),
                crop_pos_x=fn.external_source(name="crop_x"),
                mean=[0.0, 0.0, 0.0],
                std=WHITE,
                dtype=types.DALIDataType.FLOAT,
                output_layout="CHW",
            )
        )
    return PixelGraph(pipeline, depth)


def undecodable(
    jpegs: Sequence[np.ndarray], *, threads: int, device_id: int | None, hw_decoder_load: float
) -> list[int]:
    """Places of the photographs that DALI can not decode.

    A failure makes a pipeline invalid, and its message seldom says which photograph it was (DALI 2.4), so::

        decode SEARCHED photographs together;  where that fails: each half alone, in a new pipeline, down to one
    """

    def decoder() -> PixelGraph:
        pipeline = _pipeline(SEARCHED, threads, 1, device_id)
        with pipeline:
            pipeline.set_outputs(decode("jpeg/0", device_id, hw_decoder_load))
        return PixelGraph(pipeline, 1)

    bad: list[int] = []
    graph = decoder()
    todo = [list(range(len(jpegs)))[start : start + SEARCHED] for start in range(0, len(jpegs), SEARCHED)]
    while todo:
        places = todo.pop()
        try:
            graph.submit({"jpeg/0": [jpegs[place] for place in places]})
            graph.collect()
            graph.release()
        except RuntimeError:
            graph = decoder()
            half = len(places) // 2
            todo += [places[:half], places[half:]] if half else []
            bad += [] if half else places
    return sorted(bad)


def _pipeline(batch_size: int, threads: int, depth: int, device_id: int | None) -> Pipeline:
    return Pipeline(**options(batch_size, threads, depth, device_id))


def options(
    batch_size: int, threads: int, depth: int, device_id: int | None, dynamic: bool | None = None
) -> dict[str, Any]:
    """What every pipeline is made with. dynamic: which executor; None takes the dynamic one on a GPU alone."""
    return {
        "batch_size": batch_size,
        "num_threads": threads,
        "device_id": device_id,
        "prefetch_queue_depth": depth,
        # On a CPU the dynamic executor takes fresh memory for every output of every batch, and the kernel's time to
        # give it was a tenth of the loader's; the older one keeps its buffers.
        "exec_dynamic": device_id is not None if dynamic is None else dynamic,
        "set_affinity": False,
    }


def decode(name: str, device_id: int | None, hw_decoder_load: float) -> Any:
    jpeg = fn.external_source(name=name, dtype=types.DALIDataType.UINT8, ndim=1)
    if device_id is None:
        return fn.decoders.image(jpeg, device="cpu", output_type=types.DALIImageType.RGB)
    return fn.decoders.image(jpeg, device="mixed", output_type=types.DALIImageType.RGB, hw_decoder_load=hw_decoder_load)
