"""Presets say what the papers and docs/methods.md say of them."""

from __future__ import annotations

import pytest

from skill_fast.config import parse
from skill_fast.methods import METHODS
from skill_fast.presets import PRESETS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_passes_the_limits_and_names_a_method(name):
    config = parse(["--preset", name], PRESETS).config
    assert config == PRESETS[name] or config.out == f"runs/{name}"
    assert config.method in METHODS and hasattr(config, config.method)


def test_every_method_has_a_preset_of_a_size_to_use_and_one_to_try():
    for name in METHODS:
        found = {preset for preset, config in PRESETS.items() if config.method == name}
        assert f"{name}_demo" in found and len(found) >= 2, name


def test_the_ablations_change_one_thing():
    plain = PRESETS["skill_vit_small"]
    assert PRESETS["skill_vit_small_no_local_augmentation"].loader.recipes == "none"
    weak = PRESETS["skill_vit_small_weak_color"].views.generic
    assert (weak.gray_p, weak.jitter_p, weak.blur_p) == (0.1, 0.1, 0.1)
    assert (weak.brightness, weak.hue) == (plain.views.generic.brightness, plain.views.generic.hue)
    assert PRESETS["skill_vit_small_single_photograph"].views.photographs == "one"
    assert PRESETS["skill_vit_small_cross_resolution"].skill.pairs == "cross_resolution"


def test_dino_has_its_own_augmentation():
    """Caron et al. 2021, appendix: grey .2; blur 1, .1, .5; solarize .2 on the second global crop."""
    views = PRESETS["dino_vit_small"].views
    first, second = views.global_groups(224)
    (local,) = views.local_groups()
    assert [group.generic.blur_p for group in (first, second, local)] == [1.0, 0.1, 0.5]
    assert [group.generic.solarize_p for group in (first, second, local)] == [0.0, 0.2, 0.0]
    assert all(group.generic.gray_p == 0.2 for group in (first, second, local))
    assert first.photographs == second.photographs == (0,)


@pytest.mark.parametrize("name", ["byol_resnet50", "simclr_resnet50"])
def test_the_cnn_baselines_are_resnets_with_lars(name):
    config = PRESETS[name]
    assert (config.backbone.name, config.optimizer.name) == ("resnet50", "lars")
    assert config.views.photographs == "one" and config.loader.recipes == "none"


def test_demos_differ_in_method_and_rate_alone():
    plain = PRESETS["demo"]
    for name in METHODS:
        config = PRESETS[f"{name}_demo"]
        assert (config.views, config.backbone, config.steps) == (plain.views, plain.backbone, plain.steps)
        rates = {config.optimizer.lr, plain.optimizer.lr}
        assert rates == ({1e-2} if name in ("skill", "dino") else {1e-2, 4e-3})
