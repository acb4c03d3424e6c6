"""lightly's parts put together as its DINO example does: DINOTransform, DINOLoss, update_momentum.

A forward pass a view, as in that example. The transform's settings are those of ``benchmarks.loaders``; its first view
is made of x', the second of x'', the local ones of x'.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn

from benchmarks.loaders import MEAN, STD, CanNot, Crops, G
from benchmarks.loaders import Job as LoaderJob
from benchmarks.loaders.photographs import Pairs, data_loader, moved
from benchmarks.recipes import (
    CENTER_MOMENTUM,
    CLIP,
    EMA_MOMENTUM,
    STUDENT_TEMP,
    TEACHER_TEMP,
    Job,
    Networks,
    adamw,
    mixed_precision,
)
from skill_fast.data.views import ViewGroup


class TwoPhotographs:
    """Two photographs' bytes -> global crops of both and local crops of the first, by lightly's DINOTransform."""

    def __init__(self, views: Sequence[ViewGroup]) -> None:
        from lightly.transforms import DINOTransform

        large, small = views
        self._views = DINOTransform(
            global_crop_size=large.size,
            global_crop_scale=large.scale,
            local_crop_size=small.size,
            local_crop_scale=small.scale,
            n_local_views=small.views,
            hf_prob=G.flip_p,
            cj_prob=G.jitter_p,
            cj_strength=1.0,
            cj_bright=G.brightness,
            cj_contrast=G.contrast,
            cj_sat=G.saturation,
            cj_hue=G.hue,
            random_gray_scale=G.gray_p,
            gaussian_blur=(G.blur_p,) * 3,
            sigmas=G.blur_sigma,
            solarization_prob=G.solarize_p,
            normalize={"mean": list(MEAN), "std": list(STD)},
        ).transforms

    def __call__(self, first: bytes, second: bytes) -> tuple[list[Any], list[Any]]:
        one, two = (Image.open(io.BytesIO(data)).convert("RGB") for data in (first, second))
        return [self._views[0](one), self._views[1](two)], [view(one) for view in self._views[2:]]


def batches(job: LoaderJob) -> Iterator[Crops]:
    try:
        make_views = TwoPhotographs(job.views)
    except ImportError as error:
        raise CanNot(f"lightly is not installed: {error}") from error
    for crops in data_loader(job, Pairs(job.data, make_views)):
        yield moved(crops, job.device)


def make(job: Job, networks: Networks) -> Callable[[dict[str, Tensor]], Tensor]:
    from lightly.loss import DINOLoss
    from lightly.models.utils import update_momentum

    student, teacher = networks.student, networks.teacher
    optimizer = adamw(student)
    loss_of = DINOLoss(
        networks.prototypes,
        warmup_teacher_temp=TEACHER_TEMP,
        teacher_temp=TEACHER_TEMP,
        student_temp=STUDENT_TEMP,
        center_momentum=CENTER_MOMENTUM,
    ).to(job.device)

    def step(crops: dict[str, Tensor]) -> Tensor:
        update_momentum(student, teacher, m=EMA_MOMENTUM)
        views = [*crops["global"], *crops["local"]]
        with mixed_precision(job):
            targets = [teacher(view[None])[0] for view in views[:2]]
            loss = loss_of(targets, [student(view[None])[0] for view in views], epoch=0)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
