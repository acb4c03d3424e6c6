"""What all catalogues' rows share: rows that can not be used, JSON within limits, paths that stay where they should."""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from shards.errors import BadData, BadUsage
from shards.places import Place, is_remote, place, size_of

MAX_FIELD_CHARACTERS = 1 << 20
MAX_JSON_DEPTH = 64
SHOWN_CHARACTERS = 200
NUMBER_DIGITS = 18
# Most addresses are plain, and making a place of each only to look at it would take longer than reading the row.
_ADDRESS = re.compile(r"(s3|gs)://[^/?#@:]+/[^?#]+")


class BadRow(Exception):
    """One row can not be used; the message says which column and why."""


def shown(value: Any, characters: int = SHOWN_CHARACTERS) -> str:
    """A value as an error message can hold it."""
    text = "" if value is None else str(value)[:characters]
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def parse_json(text: str) -> Any:
    """JSON of bounded depth, in which no object names a key twice; raises BadRow.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not JSON: {error}") from error
    # Brackets within strings count too, so this can only be too careful: then the value itself is measured.
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(value) > MAX_JSON_DEPTH:
        raise BadRow(f"JSON nested deeper than {MAX_JSON_DEPTH}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadRow(f"'{shown(next(name for name in names if names.count(name) > 1))}' is there twice")
    return found


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [element for items in inner for element in items]
    return depth - 1


def is_number(text: str) -> bool:
    """Whether it is a whole number that an int64 can hold, in digits alone."""
    return len(text) <= NUMBER_DIGITS and text.isdecimal()


def require(root: Place, layout: str, *, files: tuple[str, ...] = (), folders: tuple[str, ...] = ()) -> None:
    """Raise BadData naming what ``root`` lacks of the tree that ``layout`` describes."""
    missing = [f"file '{name}'" for name in files if size_of(root / name) is None]
    missing += [f"folder '{name}'" for name in folders if not (root / name).is_dir()]
    if missing:
        raise BadData(
            f"'{root}' has no {' and no '.join(missing)}",
            allowed=layout,
            change="check the path: the folder that holds these itself, with the archives unpacked",
        )


def inside(path: str, column: str) -> str:
    """A path within the catalogue's own tree, unchanged; raises BadRow where it is absolute or leads out."""
    parts = path.split("/")
    if not path or "\0" in path or path.startswith("/") or ".." in parts or ":" in parts[0]:
        raise BadRow(f"{column} is {shown(path)!r}, allowed: a path within the catalogue")
    return path


def image_place(root: Place, path: str) -> Place:
    """The place of a manifest's image_path: relative to ``root``, absolute, or an address; see ``check_image_path``."""
    if "://" in path:
        return place(path)
    if not is_remote(root):
        return root / path
    if path.startswith("/"):
        return place(path)
    # Object storage knows no "..": the key itself has to be the one that is meant.
    return root.joinpath(posixpath.normpath(path)) if ".." not in path else _climbed(root, path)


def check_image_path(path: str) -> None:
    """Raise BadRow where an image_path can lead nowhere, or to where nothing is read from."""
    for character, name in (("\0", "a NUL character"), ("\n", "a line break (is a quote left open?)")):
        if character in path:
            raise BadRow(f"image_path holds {name}")
    if ":" in path and not _ADDRESS.fullmatch(path):
        try:
            place(path)
        except BadUsage as error:
            raise BadRow(f"image_path: {shown(error.came)}, allowed: {error.allowed}") from error


def _climbed(root: Place, path: str) -> Place:
    scheme, _, key = str(root).partition("://")
    return place(f"{scheme}://{posixpath.normpath(f'{key}/{path}')}")
