"""Everything that is done to pixels: DALI graphs that decode photographs and carry out a plan, nothing random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, math, pipeline_def, types
from torch import Tensor

from skill_fast.data.plan import IDENTITY_SIGMA, CropPlan
from skill_fast.data.views import ViewGroup

WHITE = [255.0, 255.0, 255.0]
SEARCHED = 32
"""Photographs that are decoded together in the search for one that can not be."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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


def crop_graph(
    groups: Sequence[ViewGroup],
    batch_size: int,
    *,
    photographs: int,
    bends: bool,
    erases: bool,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: str,
    threads: int,
    depth: int,
    device_id: int | None = None,
    hw_decoder_load: float = 0.65,
) -> PixelGraph:
    """The graph of a training batch: each photograph is decoded once and feeds all the crops that show it.

    photographs: 1 or 2, how many are fed. bends, erases: whether any recipe in use warps or erases. device_id: None
    runs the whole graph on the CPU. Inputs are those of ``crop_inputs``. Outputs: one [batch, 3, size, size] per
    view, group by group, normalised with mean and std (of pixels in [0, 1]), in ``output_type(dtype, device_id)``.

        resize with ROI -> warp -> colour twist -> blur -> solarize -> erase -> normalise, mirror

    An operation that no view of a group can need is left out; warp and blur pass over the samples that do not need
    them. On a CPU values stay float32 from the colour twist on, clipped to 0 to 255: DALI 2.4 rounds to 8 bits there
    one value at a time, which took longer than the arithmetic (docs/LOG.md). On a GPU they are rounded to 8 bits.
    """
    on_cpu = device_id is None

    @pipeline_def(enable_conditionals=True, **_options(batch_size, threads, depth, device_id))
    def crops() -> tuple[Any, ...]:
        decoded = [_decode(f"jpeg/{i}", device_id, hw_decoder_load) for i in range(photographs)]
        outputs = []
        for group in groups:
            for view, shown in enumerate(group.photographs):
                crop = _augment(decoded[shown], group, view, bends=bends, erases=erases, in_float=on_cpu)
                outputs.append(
                    fn.crop_mirror_normalize(
                        crop,
                        mirror=_argument(group, view, "mirror"),
                        mean=[255 * m for m in mean],
                        std=[255 * s for s in std],
                        dtype=output_type(dtype, device_id),
                        output_layout="CHW",
                    )
                )
        return tuple(outputs)

    return PixelGraph(crops(), depth)


def output_type(dtype: str, device_id: int | None) -> types.DALIDataType:
    """What DALI hands over for ``dtype``: half precision only on a GPU, and only float16.

    It has no bfloat16, and writes float16 on a CPU at half the speed of float32; torch casts both, rounding once.
    """
    half = dtype == "float16" and device_id is not None
    return types.DALIDataType.FLOAT16 if half else types.DALIDataType.FLOAT


def crop_inputs(
    groups: Sequence[ViewGroup],
    plans: Mapping[str, CropPlan],
    jpegs: Sequence[list[np.ndarray]],
    *,
    bends: bool,
    erases: bool,
) -> dict[str, Any]:
    """What ``crop_graph`` is fed for a batch: the photographs' bytes, [size] uint8 each, and their plan."""
    inputs: dict[str, Any] = {f"jpeg/{i}": batch for i, batch in enumerate(jpegs)}
    for group in groups:
        plan = plans[group.name]
        arrays = {"roi_start": plan.region[..., :2], "roi_end": plan.region[..., 2:], "mirror": plan.mirror}
        if bends:
            bent = (plan.homography != np.eye(3, dtype=np.float32)).any(axis=(-2, -1))
            arrays |= {"resized": plan.resized, "homography": plan.homography, "bent": bent}
        if jitters(group):
            arrays |= {name: getattr(plan, name) for name in ("brightness", "contrast", "saturation", "hue_degrees")}
        if group.generic.blur_p > 0:
            arrays |= {"blur_sigma": plan.blur_sigma, "blurred": plan.blur_sigma > IDENTITY_SIGMA}
        if group.generic.solarize_p > 0:
            arrays["solarize_from"] = plan.solarize_from
        if erases:
            arrays |= {"erase_anchor": plan.erase_box[..., :2], "erase_shape": plan.erase_box[..., 2:]}
        for view in range(group.views):
            for name, array in arrays.items():
                inputs[_input_name(group, view, name)] = np.ascontiguousarray(array[:, view])
    return inputs


def jitters(group: ViewGroup) -> bool:
    """Whether any view of the group can change colour."""
    return group.generic.jitter_p > 0 or group.generic.gray_p > 0


def _augment(image: Any, group: ViewGroup, view: int, *, bends: bool, erases: bool, in_float: bool) -> Any:
    """One crop, [size, size, 3] uint8 or, in_float, float32 of 0 to 255; not yet mirrored."""

    def argument(name: str) -> Any:
        return _argument(group, view, name)

    size = (group.size, group.size)
    image = fn.resize(
        image,
        size=argument("resized") if bends else size,
        roi_start=argument("roi_start"),
        roi_end=argument("roi_end"),
        interp_type=types.DALIInterpType.INTERP_CUBIC,
        antialias=True,
    )
    if bends:
        image = _warped(image, argument("bent"), argument("homography"), size)
    if jitters(group):
        image = _twisted(image, argument, in_float=in_float)
    if group.generic.blur_p > 0:
        image = _blurred(image, argument("blurred"), argument("blur_sigma"))
    if group.generic.solarize_p > 0:
        image = _solarized(image, argument("solarize_from"), in_float=in_float and jitters(group))
    if erases:
        box = {"anchor": argument("erase_anchor"), "shape": argument("erase_shape")}
        image = fn.erase(image, **box, axis_names="HW", fill_value=WHITE)
    return image


# The conditions below are DALI's own, a sample at a time: `bent` and `blurred` are nodes of the graph.


def _warped(image: Any, bent: Any, homography: Any, size: tuple[int, int]) -> Any:
    if bent:
        image = fn.experimental.warp_perspective(image, matrix=homography, size=size, fill_value=WHITE)
    return image


def _twisted(image: Any, argument: Callable[[str], Any], *, in_float: bool) -> Any:
    twisted = fn.color_twist(
        image,
        brightness=argument("brightness"),
        contrast=argument("contrast"),
        saturation=argument("saturation"),
        hue=argument("hue_degrees"),
        dtype=types.DALIDataType.FLOAT if in_float else types.DALIDataType.UINT8,
    )
    return math.min(math.max(twisted, 0.0), 255.0) if in_float else twisted


def _blurred(image: Any, blurred: Any, sigma: Any) -> Any:
    if blurred:
        image = fn.gaussian_blur(image, sigma=sigma)
    return image


def _solarized(image: Any, solarize_from: Any, *, in_float: bool) -> Any:
    inverted = image >= solarize_from
    if in_float:
        return image + inverted * (255.0 - 2.0 * image)
    # Inverting 8 bits is an exclusive or with 255; the others meet one with 0.
    ones = types.Constant(255, dtype=types.DALIDataType.UINT8)
    return image ^ (fn.cast(inverted, dtype=types.DALIDataType.UINT8) * ones)


def evaluation_graph(
    batch_size: int, crop: int, *, threads: int, depth: int, device_id: int | None, hw_decoder_load: float
) -> PixelGraph:
    """Decode, resize to ``resized``, cut [3, crop, crop] float32 in [0, 1] out at ``crop_y``, ``crop_x`` (0 to 1)."""
    pipeline = _pipeline(batch_size, threads, depth, device_id)
    with pipeline:
        image = fn.resize(
            _decode("jpeg/0", device_id, hw_decoder_load),
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
            pipeline.set_outputs(_decode("jpeg/0", device_id, hw_decoder_load))
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
    return Pipeline(**_options(batch_size, threads, depth, device_id))


def _options(batch_size: int, threads: int, depth: int, device_id: int | None) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "num_threads": threads,
        "device_id": device_id,
        "prefetch_queue_depth": depth,
        # On a CPU the dynamic executor takes fresh memory for every output of every batch, and the kernel's time to
        # give it was a tenth of the loader's; the older one keeps its buffers.
        "exec_dynamic": device_id is not None,
        "set_affinity": False,
    }


def _decode(name: str, device_id: int | None, hw_decoder_load: float) -> Any:
    jpeg = fn.external_source(name=name, dtype=types.DALIDataType.UINT8, ndim=1)
    if device_id is None:
        return fn.decoders.image(jpeg, device="cpu", output_type=types.DALIImageType.RGB)
    return fn.decoders.image(jpeg, device="mixed", output_type=types.DALIImageType.RGB, hw_decoder_load=hw_decoder_load)


def _input_name(group: ViewGroup, view: int, name: str) -> str:
    return f"{group.name}/{view}/{name}"


def _argument(group: ViewGroup, view: int, name: str) -> Any:
    return fn.external_source(name=_input_name(group, view, name))
