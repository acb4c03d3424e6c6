"""Recipe files: strict reading, and which product type follows which."""

from __future__ import annotations

import pytest

from skill_fast.data.recipes import Recipe, load_recipe, recipe_for, recipe_names, recipes_of_types
from skill_fast.errors import BadUsage


def test_the_shipped_recipes_are_those_of_the_method():
    assert set(recipe_names()) == {"dress", "shirt", "furniture", "flat", "shoes_bags", "none", "drawn"}
    dress, shirt, furniture, flat, shoes = (
        load_recipe(n) for n in ("dress", "shirt", "furniture", "flat", "shoes_bags")
    )
    assert (dress.rotate_degrees, dress.rotate_p, dress.zoom_area, dress.zoom_p) == (30, 0.5, (0.3, 0.7), 0.3)
    assert (dress.perspective, dress.perspective_p, dress.erase_area, dress.erase_p) == (0.2, 0.3, (0.02, 0.2), 0.25)
    assert (shirt.rotate_degrees, shirt.zoom_p, shirt.perspective, shirt.erase_p) == (15, 0.3, 0.2, 0.25)
    assert (furniture.scale, furniture.rotate_degrees, furniture.perspective) == ((0.8, 1.2), 5, 0.3)
    assert furniture.perspective_p == 0.5 and furniture.vertical_flip_p == dress.vertical_flip_p == 0
    assert flat.quarter_turns and flat.vertical_flip_p == 0.5 and flat.zoom_area == (0.1, 0.5) and flat.zoom_p == 0.5
    assert (shoes.rotate_degrees, shoes.perspective, shoes.perspective_p) == (15, 0.2, 0.3)
    assert load_recipe("none") == Recipe() and not Recipe().bends and not Recipe().erases
    assert dress.bends and dress.erases and flat.bends and not flat.erases


@pytest.mark.parametrize(
    ("product_type", "recipe"),
    [
        ("shirt", "shirt"),
        ("dress", "dress"),
        ("trousers", "shirt"),
        ("chair", "furniture"),
        ("T-shirt", "shirt"),
        ("Tshirts", "shirt"),
        ("Women's Summer DRESSES", "dress"),
        ("Dresser", "furniture"),
        ("hoodie", "shirt"),
        ("Polo", "shirt"),
        ("jacket", "shirt"),
        ("SOFA", "furniture"),
        ("table_lamp", "furniture"),
        ("RUG", "flat"),
        ("HOME_BED_AND_BATH", "flat"),
        ("Casual Shoes", "shoes_bags"),
        ("HANDBAG", "shoes_bags"),
        ("CELLULAR_PHONE_CASE", "none"),
        ("address book", "none"),
        ("", "none"),
    ],
)
def test_product_types_find_their_recipe(product_type, recipe):
    assert recipe_for(product_type) == recipe


def test_selection_by_type_or_by_name(tmp_path):
    recipes, codes = recipes_of_types(["dress", "gadget", "gown"])
    assert [recipes[c] for c in codes] == [load_recipe("dress"), Recipe(), load_recipe("dress")]
    recipes, codes = recipes_of_types(["dress", "gadget"], "flat")
    assert recipes == [load_recipe("flat")] and codes.tolist() == [0, 0]
    own = tmp_path / "own.yaml"
    own.write_text("rotate_p: 1\nrotate_degrees: 3\n")
    assert recipes_of_types(["dress"], str(own))[0] == [Recipe(rotate_p=1.0, rotate_degrees=3.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotat_p: 1", r"unknown key 'rotat_p'\n  allowed: rotate_p, rotate_degrees, "),
        ("rotate_p: 1.5", r"rotate_p: 1.5\n  allowed: a number from 0 to 1"),
        ("rotate_p: yes", r"rotate_p: True\n  allowed: a number from 0 to 1"),
        ("zoom_area: 0.3", r"zoom_area: 0.3\n  allowed: two numbers \[low, high\] from 0 to 1 above 0"),
        ("zoom_area: [0.7, 0.3]", "zoom_area"),
        ("scale: [0.0, 1.0]", "above 0"),
        ("quarter_turns: 1", "true or false"),
        ("- rotate_p", "holds a list"),
        ("rotate_p: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadUsage, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_unknown_recipes_are_refused(tmp_path):
    with pytest.raises(BadUsage, match=r"there is no recipe 'dres'(?s:.*)dress, flat"):
        load_recipe("dres")
    with pytest.raises(BadUsage, match=r"there is no recipe file .*gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")
