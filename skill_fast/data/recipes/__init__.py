"""A of the method: one recipe of augmentation per product type, read from the YAML files beside this one."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skill_fast.errors import BadUsage

FOLDER = Path(__file__).parent
TYPES_FILE = FOLDER / "product_types.yaml"
FALLBACK = "none"
BY_TYPE = "by_type"


@dataclass(frozen=True)
class Recipe:
    """What a product type's photographs go through before the generic augmentation; what a file leaves out is off.

    docs/recipes.md explains every key. Shares and probabilities are in [0, 1], angles in degrees, pairs are (low,
    high).
    """

    rotate_p: float = 0.0
    rotate_degrees: float = 0.0
    """Angle drawn from U(-d, d), counter-clockwise."""
    quarter_turns: bool = False
    """A turn by 0, 90, 180 or 270 degrees, each as likely."""
    vertical_flip_p: float = 0.0
    scale_p: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    """Factor by which the product grows."""
    perspective_p: float = 0.0
    perspective: float = 0.0
    """Largest way that a corner moves inwards, as a share of half the side."""
    zoom_p: float = 0.0
    zoom_area: tuple[float, float] = (1.0, 1.0)
    zoom_aspect: float = 1.0
    """Width over height of the zoom window, relative to the photograph's."""
    zoom_center_y: tuple[float, float] = (0.5, 0.5)
    zoom_center_x: tuple[float, float] = (0.5, 0.5)
    erase_p: float = 0.0
    erase_area: tuple[float, float] = (0.0, 0.0)
    erase_aspect: tuple[float, float] = (0.3, 3.3)
    """Height over width of the erased box."""

    @property
    def bends(self) -> bool:
        """Whether a crop can be anything but an upright window."""
        return bool(
            self.quarter_turns or max(self.rotate_p, self.vertical_flip_p, self.scale_p, self.perspective_p) > 0
        )

    @property
    def erases(self) -> bool:
        return self.erase_p > 0


SHARES = {"rotate_p", "vertical_flip_p", "scale_p", "perspective_p", "perspective", "zoom_p", "erase_p"}
SHARES |= {"zoom_area", "zoom_center_y", "zoom_center_x", "erase_area"}
POSITIVE = {"scale", "zoom_area", "zoom_aspect", "erase_aspect"}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by its name (``dress``) or from a YAML file; BadUsage naming the file, the key and what is allowed."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name_or_path}.yaml"
        if str(name_or_path) not in recipe_names():
            raise BadUsage(
                f"there is no recipe '{name_or_path}'",
                allowed=f"{', '.join(recipe_names())}, {BY_TYPE}, or the path of a .yaml file",
            )
    values = _read_yaml(path)
    allowed = {f.name: f.default for f in fields(Recipe)}
    for key, value in values.items():
        if key not in allowed:
            raise BadUsage(f"'{path}' has an unknown key '{key}'", allowed=", ".join(allowed))
        values[key] = _checked(path, key, value, allowed[key])
    return Recipe(**values)


@cache
def recipe_names() -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in FOLDER.glob("*.yaml") if p != TYPES_FILE))


def recipe_for(product_type: str) -> str:
    """Name of the recipe for a product type, by the words of product_types.yaml; ``none`` where no word is known.

    The first line of the file that matches wins. A pattern matches whole words, singular or plural, in any case:
    "Women's Summer DRESSES" is a dress, "dresser" is not.
    """
    words = f" {' '.join(re.findall('[a-z]+', product_type.lower()))} "
    for recipe, pattern in _type_patterns():
        if re.search(rf" {pattern}(s|es)? ", words):
            return recipe
    return FALLBACK


def recipes_of_types(product_types: list[str], selection: str = BY_TYPE) -> tuple[list[Recipe], np.ndarray]:
    """The recipes in use and, for each product type, which of them it follows, [types] int64.

    selection: ``by_type``, or a recipe's name or file that all types follow.
    """
    names = [recipe_for(t) if selection == BY_TYPE else selection for t in product_types]
    in_use = sorted(set(names))
    return [load_recipe(name) for name in in_use], np.array([in_use.index(name) for name in names], dtype=np.int64)


@cache
def _type_patterns() -> list[tuple[str, str]]:
    table = _read_yaml(TYPES_FILE)
    return [
        (recipe, re.escape(pattern).replace(r"\ ", " ")) for recipe, patterns in table.items() for pattern in patterns
    ]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadUsage(f"there is no recipe file '{path}'", change="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadUsage(f"'{path}' is not YAML: {error}", change="mend the file") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadUsage(f"'{path}' holds a {type(values).__name__}", allowed="lines of the form key: value")
    return values


def _checked(path: Path, key: str, value: Any, default: Any) -> Any:
    """The value in the type of its default, within its range; BadUsage otherwise."""
    pair = isinstance(default, tuple)
    numbers = value if isinstance(value, list) else [value]
    allowed = "true or false" if isinstance(default, bool) else "two numbers [low, high]" if pair else "a number"
    if key in SHARES:
        allowed += " from 0 to 1"
    if key in POSITIVE:
        allowed += " above 0"
    kind = bool if isinstance(default, bool) else (int, float)
    ok = all(isinstance(n, kind) and (kind is bool or not isinstance(n, bool)) for n in numbers)
    ok = ok and isinstance(value, list) == pair and (not pair or (len(value) == 2 and value[0] <= value[1]))
    ok = ok and (key not in SHARES or all(0 <= n <= 1 for n in numbers))
    ok = ok and (key not in POSITIVE or all(n > 0 for n in numbers))
    if not ok:
        raise BadUsage(f"'{path}' has {key}: {value}", allowed=allowed)
    return tuple(float(n) for n in value) if pair else value if isinstance(default, bool) else float(value)
