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
from skill_fast.evaluate.embed import embed_all
from skill_fast.evaluate.products import product_means


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


@pytest.mark.parametrize("ground", [(255, 255, 255), (225, 225, 228), (224, 214, 236)])
def test_light_grounds_are_no_foreground(ground):
    image = on_white((200, 30, 30))
    level = torch.tensor(ground, dtype=torch.float32).view(3, 1, 1) / 255
    image = torch.where((image == 1).all(dim=1, keepdim=True), level, image)
    assert int(foreground(image).sum()) == 16 * 16
    assert BASIC_NAMES[int(basic_color_shares(image).argmax())] == "red"


def test_where_nothing_stands_out_every_pixel_is_foreground():
    assert foreground(torch.ones(2, 3, 5, 7)).all()
    assert foreground(torch.full((1, 3, 8, 8), 0.8)).all()


def test_a_product_that_fills_the_frame_is_foreground():
    assert foreground(torch.full((1, 3, 8, 8), 0.3)).all()


def test_dominant_colors_of_drawn_photographs_are_mostly_the_catalogue_s(demo_index):
    rows = demo_index.images_of(np.arange(demo_index.products))
    shares = embed_all(demo_index, {"color": basic_color_shares}, rows, resize=40, crop=40, threads=1)["color"]
    dominant = np.array(BASIC_NAMES)[product_means(shares, demo_index.product[rows]).argmax(axis=1)]
    known = np.array([catalogue_color(word) for word in demo_index.column("color")])
    basic = np.isin(known, BASIC_NAMES)
    # Second colours, shadows and detail shots take the rest; a guess among ten colours is right for one in ten.
    assert (dominant == known)[basic].mean() > 0.6
