"""Names of colours, in catalogues and in pixels."""

import numpy as np
import pytest
import torch

from skill_fast.evaluate.color_names import (
    BASIC_NAMES,
    CATALOGUE_NAMES,
    basic_color_shares,
    catalogue_color,
    foreground,
    lab_from_srgb,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Red", "red"),
        ("gray", "grey"),
        ("Navy Blue", "navy"),
        ("navy-blue", "navy"),
        ("light blue", "blue"),
        ("dark olive green", "olive"),
        ("Off-White", "white"),
        ("Red/Black", "red"),
        ("black and white", "black"),
        ("unheard, pink", "pink"),
        ("teal", "turquoise"),
        ("Multicolor", "multicolour"),
        ("lavender", "purple"),
        ("redwood", ""),
        ("", ""),
        ("42", ""),
    ],
)
def test_catalogue_words(text, name):
    assert catalogue_color(text) == name


def test_every_name_means_itself_and_no_word_two_names():
    words = [word for several in CATALOGUE_NAMES.values() for word in several.split()]
    assert len(words) == len(set(words))
    assert len(CATALOGUE_NAMES) == 20
    for name in CATALOGUE_NAMES:
        assert catalogue_color(name) == name


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # Published D65 values (Lindbloom's calculator, 2 degree observer), good to the digits shown.
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colors(rgb, lab):
    got = lab_from_srgb(torch.tensor([rgb], dtype=torch.float64) / 255)[0]
    np.testing.assert_allclose(got.numpy(), lab, atol=0.02)


def on_white(rgb, side=40):
    image = torch.ones(1, 3, side, side)
    image[:, :, 12:28, 12:28] = torch.tensor(rgb, dtype=torch.float32).view(3, 1, 1) / 255
    return image


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((210, 30, 40), "red"),
        ((30, 30, 120), "blue"),
        ((20, 20, 22), "black"),
        ((130, 130, 134), "grey"),
        ((240, 140, 180), "pink"),
        ((100, 60, 35), "brown"),
        ((40, 130, 60), "green"),
        ((235, 205, 60), "yellow"),
        ((240, 125, 30), "orange"),
        ((125, 50, 150), "purple"),
    ],
)
def test_dominant_color_of_a_product_on_white(rgb, name):
    shares = basic_color_shares(on_white(rgb))
    assert shares.sum().item() == pytest.approx(1)
    assert BASIC_NAMES[int(shares.argmax())] == name


def test_white_product_on_white_is_white():
    assert BASIC_NAMES[int(basic_color_shares(torch.ones(1, 3, 20, 20)).argmax())] == "white"


def test_foreground_is_what_is_not_near_white():
    mask = foreground(on_white((200, 30, 30)))
    assert int(mask.sum()) == 16 * 16
    assert foreground(torch.ones(2, 3, 5, 7)).all()
