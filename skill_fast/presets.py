"""Presets: a name for a whole configuration. Each is a function's result; the saved config.yaml says what ran."""

from __future__ import annotations

from dataclasses import replace

from skill_fast.config import Config
from skill_fast.data.loader import LoaderConfig
from skill_fast.data.views import GenericAugmentation
from skill_fast.engine.optimizer import OptimizerConfig
from skill_fast.methods.skill import ViewsConfig
from skill_fast.models.heads import HeadConfig
from skill_fast.models.vit import BackboneConfig

COLOR_AGNOSTIC = GenericAugmentation(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


def demo() -> Config:
    """A small encoder of drawn products: minutes on two CPU cores. What was tried is in docs/LOG.md."""
    return Config(
        steps=2600,
        loader=LoaderConfig(recipes="drawn"),
        checkpoint_every=1300,
        views=ViewsConfig(
            global_scale=(0.5, 1.0),
            local_crops=2,
            local_size=24,
            local_scale=(0.2, 0.5),
            generic=GenericAugmentation(hue=0.5, saturation=0.5, blur_p=0.0),
        ),
        backbone=BackboneConfig(
            "vit_tiny_patch16_224", 48, patch_size=8, embed_dim=96, depth=4, num_heads=3, drop_path=0.0, init="fan_in"
        ),
        head=HeadConfig(prototypes=256, hidden=256, bottleneck=64, init="fan_in"),
        optimizer=OptimizerConfig(
            lr=1e-2,
            warmup_epochs=1.5,
            final_weight_decay=0.1,
            teacher_temp=0.025,
            final_teacher_temp=0.025,
            ema_momentum=0.99,
            final_ema_momentum=0.9995,
            freeze_last_layer_epochs=0.0,
        ),
    )


def skill_vit_small() -> Config:
    """SkiLL as in the paper: ViT-S/16, 2 x 224 + 8 x 96, 65,536 prototypes."""
    return Config()


def skill_vit_base() -> Config:
    """The same with ViT-B/16."""
    return Config(backbone=BackboneConfig("vit_base_patch16_224"))


def skill_vit_small_color_agnostic() -> Config:
    """ViT-S/16 with stronger jitter, for catalogues where colour stays the shortcut."""
    return Config(views=ViewsConfig(generic=COLOR_AGNOSTIC))


def skill_vit_small_short() -> Config:
    """ViT-S/16 for global batches of 256 or less: a slower teacher."""
    base = skill_vit_small()
    return replace(base, optimizer=replace(base.optimizer, ema_momentum=0.9995))


PRESETS = {
    preset.__name__: preset()
    for preset in (demo, skill_vit_small, skill_vit_base, skill_vit_small_color_agnostic, skill_vit_small_short)
}
