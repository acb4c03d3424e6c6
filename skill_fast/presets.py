"""Presets: a name for a whole configuration. Each is a function's result; the saved config.yaml says what ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from skill_fast.config import Config, MethodName
from skill_fast.data.loader import LoaderConfig
from skill_fast.data.views import GenericAugmentation, ViewsConfig
from skill_fast.engine.optimizer import OptimizerConfig
from skill_fast.methods.byol import ByolConfig
from skill_fast.methods.mocov2 import Mocov2Config
from skill_fast.methods.pbcnet import PbcnetConfig
from skill_fast.methods.simclr import SimclrConfig
from skill_fast.methods.simsiam import SimsiamConfig
from skill_fast.methods.skill import SkillConfig
from skill_fast.models.heads import HeadConfig
from skill_fast.models.vit import BackboneConfig

DINO = GenericAugmentation(gray_p=0.2, blur_p=1.0)
DINO_VIEWS = ViewsConfig(photographs="one", generic=DINO, second_blur_p=0.1, second_solarize_p=0.2, local_blur_p=0.5)
SIMCLR = GenericAugmentation(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, gray_p=0.2)
MOCO = GenericAugmentation(saturation=0.4, gray_p=0.2)
RESNET50 = BackboneConfig("resnet50", drop_path=0.0)
COLOR_AGNOSTIC = GenericAugmentation(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


def demo() -> Config:
    """A small encoder of drawn products: minutes on two CPU cores. What was tried is in docs/LOG.md."""
    return Config(
        steps=2600,
        watch_every=100,
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


def skill_vit_small_no_local_augmentation() -> Config:
    """The ablation SkiLL\\L: no augmentation of the product type's own."""
    return Config(loader=LoaderConfig(recipes="none"))


def skill_vit_small_weak_color() -> Config:
    """The ablation p1 = p2 = p3 = 0.1: grey, jitter and blur seldom."""
    return Config(views=ViewsConfig(generic=GenericAugmentation(gray_p=0.1, jitter_p=0.1, blur_p=0.1)))


def skill_vit_small_single_photograph() -> Config:
    """Both global crops from one photograph."""
    return Config(views=ViewsConfig(photographs="one"))


def skill_vit_small_cross_resolution() -> Config:
    """Only global against local crops: the paper's equation 5 as printed."""
    return Config(skill=SkillConfig(pairs="cross_resolution"))


def dino_vit_small() -> Config:
    """DINO: one photograph, its own probabilities (grey .2, blur 1 / .1 / .5, solarize .2 on the second crop)."""
    return Config(method="dino", views=DINO_VIEWS, loader=LoaderConfig(recipes="none"))


def byol_resnet50() -> Config:
    """BYOL with LARS, for ZeRO stage 0 and large batches: lr .2 per 256, decay 1.5e-6, EMA .99 to 1."""
    config = _resnet50(
        "byol", replace(DINO_VIEWS, local_crops=0, global_scale=(0.08, 1.0)), lr=0.2, weight_decay=1.5e-6
    )
    return replace(config, optimizer=replace(config.optimizer, ema_momentum=0.99))


def simclr_resnet50() -> Config:
    """SimCLR with LARS, for ZeRO stage 0: lr .3 per 256, decay 1e-6, strong jitter."""
    views = ViewsConfig(global_scale=(0.08, 1.0), photographs="one", local_crops=0, generic=SIMCLR)
    return _resnet50("simclr", views, lr=0.3, weight_decay=1e-6)


def mocov2_vit_small() -> Config:
    """MoCo v2, queue 65,536, EMA .999."""
    optimizer = OptimizerConfig(ema_momentum=0.999, final_ema_momentum=0.999)
    views = ViewsConfig(global_scale=(0.2, 1.0), photographs="one", local_crops=0, generic=MOCO)
    return Config(method="mocov2", views=views, optimizer=optimizer, loader=LoaderConfig(recipes="none"))


def simsiam_vit_small() -> Config:
    """SimSiam, the predictor's learning rate constant."""
    views = ViewsConfig(global_scale=(0.2, 1.0), photographs="one", local_crops=0, generic=MOCO)
    return Config(method="simsiam", views=views, loader=LoaderConfig(recipes="none"))


def pbcnet_resnet50() -> Config:
    """Colour variants without labels: six parts of the product, jitter .8/.8/.8/.2, EMA .999."""
    return Config(
        method="pbcnet",
        views=ViewsConfig(photographs="one", local_crops=0, generic=COLOR_AGNOSTIC),
        backbone=RESNET50,
        optimizer=OptimizerConfig(ema_momentum=0.999, final_ema_momentum=0.999),
        loader=LoaderConfig(recipes="none"),
    )


def triplet_resnet50() -> Config:
    """Colour variants with labels: P variant groups of two colours or more x 2 products."""
    views = ViewsConfig(global_scale=(0.8, 1.0), local_crops=0, generic=GenericAugmentation(jitter_p=0.0, gray_p=0.0))
    return Config(method="triplet", views=views, backbone=RESNET50, loader=LoaderConfig(recipes="none"))


def _resnet50(method: Literal["byol", "simclr"], views: ViewsConfig, *, lr: float, weight_decay: float) -> Config:
    optimizer = OptimizerConfig(name="lars", lr=lr, final_lr=0.0, weight_decay=weight_decay)
    optimizer = replace(optimizer, final_weight_decay=weight_decay)
    return Config(
        method=method, views=views, backbone=RESNET50, optimizer=optimizer, loader=LoaderConfig(recipes="none")
    )


def _demo(method: MethodName) -> Config:
    """A method on the drawn products, with the demo's backbone, crops, augmentation, steps and optimizer."""
    base = demo()
    optimizer = replace(base.optimizer, lr=4e-3) if method != "dino" else base.optimizer
    return replace(
        base,
        method=method,
        optimizer=optimizer,
        byol=ByolConfig(hidden=256, projection=64),
        simclr=SimclrConfig(hidden=256, projection=64),
        mocov2=Mocov2Config(hidden=256, projection=64, queue=1024),
        simsiam=SimsiamConfig(projection=256, prediction_hidden=64),
        pbcnet=PbcnetConfig(hidden=256, projection=64, queue=1024),
    )


PRESETS = {
    preset.__name__: preset()
    for preset in (
        demo,
        skill_vit_small,
        skill_vit_base,
        skill_vit_small_color_agnostic,
        skill_vit_small_short,
        skill_vit_small_no_local_augmentation,
        skill_vit_small_weak_color,
        skill_vit_small_single_photograph,
        skill_vit_small_cross_resolution,
        dino_vit_small,
        byol_resnet50,
        simclr_resnet50,
        mocov2_vit_small,
        simsiam_vit_small,
        pbcnet_resnet50,
        triplet_resnet50,
    )
}
DEMOS: dict[str, Config] = {f"{method}_demo": _demo(method) for method in get_args(MethodName) if method != "skill"}
PRESETS |= {"skill_demo": demo()} | DEMOS
