"""Which values an option may have; checked before anything is built, so that no library fails on them later."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skill_fast.errors import BadUsage

if TYPE_CHECKING:
    from skill_fast.config import Config

ABOVE_0 = "more than 0"
NOT_BELOW_0 = "0 or more"
COUNT = "a whole number, 1 or more"
SHARE = "0 to 1"
RANGE_OF_SHARES = "two shares, 0 < lower <= upper <= 1"

RULES = {
    ABOVE_0: lambda value: 0 < value < math.inf,
    NOT_BELOW_0: lambda value: 0 <= value < math.inf,
    COUNT: lambda value: value >= 1,
    SHARE: lambda value: 0 <= value <= 1,
    RANGE_OF_SHARES: lambda value: 0 < value[0] <= value[1] <= 1,
    "0 to 0.5": lambda value: 0 <= value <= 0.5,
    "0 up to, not with, 1": lambda value: 0 <= value < 1,
    "two sigmas in pixels, 0 < lower <= upper": lambda value: 0 < value[0] <= value[1] < math.inf,
}


def check_limits(config: Config) -> None:
    """Raise BadUsage for the first option whose value can not be; the message names the option."""
    for option, value, allowed in _limits(config):
        if value is not None and not RULES[allowed](value):
            shown = " ".join(str(part) for part in value) if isinstance(value, tuple) else value
            raise BadUsage(f"--{option} {shown}", allowed=allowed, change=f"--{option}")


def check_used(config: Config, preset: Config) -> None:
    """Raise BadUsage for an option that was changed from the preset's and that nothing in the run would use."""
    optimizer = config.optimizer
    if optimizer.teacher_temp in (preset.optimizer.teacher_temp, optimizer.final_teacher_temp):
        return
    if not optimizer.teacher_temp_warmup_epochs:
        raise BadUsage(
            f"--optimizer.teacher-temp {optimizer.teacher_temp} is where a warm-up begins, and there is none",
            allowed="with --optimizer.teacher-temp-warmup-epochs above 0, or equal to --optimizer.final-teacher-temp",
            change="--optimizer.final-teacher-temp for the temperature of the whole run",
        )


def _limits(config: Config) -> Iterator[tuple[str, Any, str]]:
    """(option, value, what is allowed) of every number of a run."""
    for name in ("epochs", "log_every", "checkpoint_every"):
        yield name.replace("_", "-"), getattr(config, name), ABOVE_0
    yield "steps", config.steps, NOT_BELOW_0
    yield "watch-every", config.watch_every, NOT_BELOW_0
    yield "watch-products", config.watch_products, COUNT
    yield "evaluate-every", config.evaluate_every, NOT_BELOW_0
    yield "evaluate-products", config.evaluate_products, COUNT
    yield "seed", config.seed, NOT_BELOW_0
    yield "cache.gib", config.cache.gib, ABOVE_0
    yield "demo.designs", config.demo.designs, COUNT
    yield "demo.photo-side", config.demo.photo_side, COUNT
    yield "demo.seed", config.demo.seed, NOT_BELOW_0
    yield "skill.student-temp", config.skill.student_temp, ABOVE_0
    yield "skill.center-momentum", config.skill.center_momentum, SHARE
    yield from _method_limits(config)
    yield "views.global-scale", config.views.global_scale, RANGE_OF_SHARES
    yield "views.local-scale", config.views.local_scale, RANGE_OF_SHARES
    yield "views.local-crops", config.views.local_crops, NOT_BELOW_0
    yield "views.local-size", config.views.local_size, COUNT
    generic = config.views.generic
    for name in ("flip_p", "jitter_p", "gray_p", "blur_p", "solarize_p"):
        yield f"views.generic.{name}".replace("_", "-"), getattr(generic, name), SHARE
    for name in ("brightness", "contrast", "saturation"):
        yield f"views.generic.{name}", getattr(generic, name), NOT_BELOW_0
    yield "views.generic.hue", generic.hue, "0 to 0.5"
    yield "views.generic.blur-sigma", generic.blur_sigma, "two sigmas in pixels, 0 < lower <= upper"
    for name in ("image_size", "patch_size", "embed_dim", "depth", "num_heads"):
        yield f"backbone.{name}".replace("_", "-"), getattr(config.backbone, name), COUNT
    yield "backbone.drop-path", config.backbone.drop_path, "0 up to, not with, 1"
    for name in ("prototypes", "hidden", "bottleneck"):
        yield f"head.{name}", getattr(config.head, name), COUNT
    yield from _optimizer_limits(config)
    for name in ("threads", "prefetch", "window_shards", "max_skipped_in_a_row"):
        yield f"loader.{name}".replace("_", "-"), getattr(config.loader, name), COUNT
    yield "loader.hw-decoder-load", config.loader.hw_decoder_load, SHARE
    yield "loader.max-skipped-share", config.loader.max_skipped_share, SHARE
    yield "loader.stuck-after-s", config.loader.stuck_after_s, ABOVE_0
    yield "loader.std", min(config.loader.std), ABOVE_0


def _method_limits(config: Config) -> Iterator[tuple[str, Any, str]]:
    """The sections of the other methods."""
    yield "dino.student-temp", config.dino.student_temp, ABOVE_0
    yield "dino.center-momentum", config.dino.center_momentum, SHARE
    for name in ("simclr", "mocov2", "pbcnet"):
        yield f"{name}.temperature", getattr(config, name).temperature, ABOVE_0
    for name in ("byol", "simclr", "mocov2", "pbcnet"):
        yield f"{name}.hidden", getattr(config, name).hidden, COUNT
        yield f"{name}.projection", getattr(config, name).projection, COUNT
    for name in ("mocov2", "pbcnet"):
        yield f"{name}.queue", getattr(config, name).queue, COUNT
    yield "simsiam.projection", config.simsiam.projection, COUNT
    yield "simsiam.prediction-hidden", config.simsiam.prediction_hidden, COUNT
    yield "pbcnet.part-weight", config.pbcnet.part_weight, NOT_BELOW_0
    yield "pbcnet.part-scale", config.pbcnet.part_scale, RANGE_OF_SHARES
    yield "triplet.margin", config.triplet.margin, ABOVE_0
    yield "triplet.products", config.triplet.products, COUNT
    for name in ("second_blur_p", "second_solarize_p", "local_blur_p"):
        yield f"views.{name}".replace("_", "-"), getattr(config.views, name), SHARE


def _optimizer_limits(config: Config) -> Iterator[tuple[str, Any, str]]:
    limits = {
        "lr": ABOVE_0,
        "final_lr": NOT_BELOW_0,
        "warmup_epochs": NOT_BELOW_0,
        "weight_decay": NOT_BELOW_0,
        "final_weight_decay": NOT_BELOW_0,
        "beta1": "0 up to, not with, 1",
        "beta2": "0 up to, not with, 1",
        "ema_momentum": SHARE,
        "final_ema_momentum": SHARE,
        "teacher_temp": ABOVE_0,
        "final_teacher_temp": ABOVE_0,
        "teacher_temp_warmup_epochs": NOT_BELOW_0,
        "freeze_last_layer_epochs": NOT_BELOW_0,
    }
    for name, allowed in limits.items():
        yield f"optimizer.{name}".replace("_", "-"), getattr(config.optimizer, name), allowed
