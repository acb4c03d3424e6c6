"""Everything that is done to pixels: one DALI graph that decodes photographs and carries out a plan, nothing random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nvidia.dali import fn, math, pipeline_def, types

from skill_fast.data.dali import WHITE, PixelGraph, decode, options, output_type
from skill_fast.data.plan import IDENTITY_SIGMA, CropPlan
from skill_fast.data.views import ViewGroup


@dataclass(frozen=True)
class Arrangement:
    """How the graph does what it does; crops differ by roundings only. `benchmarks.arrangements` compares them."""

    in_float: bool
    """Values stay float32 from the colour twist on, clipped to 0 to 255; else they are rounded to 8 bits each time."""
    conditions: bool
    """Warp and blur pass over the samples that do not need them; else these meet an identity."""
    dynamic: bool
    """DALI's dynamic executor, which takes fresh memory for every output of every batch; the only one with a GPU."""


ON_CPU = Arrangement(in_float=True, conditions=True, dynamic=False)
ON_GPU = Arrangement(in_float=False, conditions=True, dynamic=True)


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
    arrangement: Arrangement | None = None,
) -> PixelGraph:
    """The graph of a training batch: each photograph is decoded once and feeds all the crops that show it.

    photographs: 1 or 2, how many are fed. bends, erases: whether any recipe in use warps or erases. device_id: None
    runs the whole graph on the CPU. Inputs are those of ``crop_inputs``. Outputs: one [batch, 3, size, size] per
    view, group by group, normalised with mean and std (of pixels in [0, 1]), in ``output_type(dtype, device_id)``.

        resize with ROI -> warp -> colour twist -> blur -> solarize -> erase -> normalise, mirror

    An operation that no view of a group can need is left out. arrangement: None takes ON_CPU or ON_GPU. On a CPU
    DALI 2.4 rounds to 8 bits one value at a time, which took longer than the arithmetic, and a fresh buffer for every
    output was a tenth of the time (docs/LOG.md).
    """
    arrangement = arrangement or (ON_CPU if device_id is None else ON_GPU)

    @pipeline_def(enable_conditionals=True, **options(batch_size, threads, depth, device_id, arrangement.dynamic))
    def crops() -> tuple[Any, ...]:
        decoded = [decode(f"jpeg/{i}", device_id, hw_decoder_load) for i in range(photographs)]
        outputs = []
        for group in groups:
            for view, shown in enumerate(group.photographs):
                crop = _augment(decoded[shown], group, view, arrangement, bends=bends, erases=erases)
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


def _augment(image: Any, group: ViewGroup, view: int, how: Arrangement, *, bends: bool, erases: bool) -> Any:
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
        bent = argument("bent") if how.conditions else True
        image = _warped(image, bent, argument("homography"), size)
    if jitters(group):
        image = _twisted(image, argument, in_float=how.in_float)
    if group.generic.blur_p > 0:
        blurred = argument("blurred") if how.conditions else True
        image = _blurred(image, blurred, argument("blur_sigma"))
    if group.generic.solarize_p > 0:
        image = _solarized(image, argument("solarize_from"), in_float=how.in_float and jitters(group))
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


def _input_name(group: ViewGroup, view: int, name: str) -> str:
    return f"{group.name}/{view}/{name}"


def _argument(group: ViewGroup, view: int, name: str) -> Any:
    return fn.external_source(name=_input_name(group, view, name))
