"""Amazon Berkeley Objects: gzipped JSON Lines of listings and a table of photographs. See docs/sources/abo.md."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from shards.errors import BadData
from shards.places import Place, entries
from shards.sources.gathering import Gathering, Mention
from shards.sources.lines import numbered, open_lines
from shards.sources.product import Catalogue
from shards.sources.rows import BadRow, inside, parse_json, require, shown
from shards.sources.spool import Lookup
from shards.sources.tables import read_csv

IMAGES = "images/metadata/images.csv.gz"
LISTINGS = "listings/metadata"
PIXELS = ("images/original", "images/small")
LAYOUT = f"{LISTINGS}/listings_0.json.gz and so on, {IMAGES}, and {' or '.join(PIXELS)}"
LABELS = ("product_type", "color", "pattern")
TEXTS = ("brand", "item_name", "material", "style", "fabric_type", "finish_type", "item_shape", "model_name")
"""Fields in several languages that become attributes, beside model_number and model_year."""
FIELDS = (*LABELS, *TEXTS, "model_number", "model_year")
Text = list[Any]
"""How far its language is from American English; that language; the text; where there are any, its standardized
values."""


def recognizes(root: Place) -> bool:
    return (root / LISTINGS).is_dir() and (root / "images/metadata").is_dir()


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """A product is an item_id, merged over its listings in all marketplaces, with the main image and the others.

    Raises BadData where the tree is not ABO's, or where images.csv.gz is damaged: everything hangs on it.
    """
    require(root, LAYOUT, files=(IMAGES,), folders=(LISTINGS,))
    pixels = next((folder for folder in PIXELS if (root / folder).is_dir()), None)
    if pixels is None:
        raise BadData(
            f"'{root}' has neither {' nor '.join(PIXELS)}", allowed=LAYOUT, change="unpack abo-images-small.tar"
        )
    names = sorted(name for name in entries(root / LISTINGS) if re.fullmatch(r"listings_\w+\.json\.gz", name))
    if not names:
        raise BadData(
            f"'{root / LISTINGS}' holds no listings_*.json.gz", allowed=LAYOUT, change="unpack abo-listings.tar"
        )
    paths = Lookup(_image_paths(root / IMAGES))

    def locate(image_id: str) -> Place | None:
        path = paths.get(image_id)
        return root / pixels / path if path else None

    gathering = Gathering(locate, repeats=True, combine=lambda mentions: _one_language(mentions, gathering.notes))
    for name in names:
        with open_lines(root / LISTINGS / name) as lines:
            for number, line in numbered(lines):
                try:
                    gathering.add(_mention(line, f"{name} line {number}"))
                except BadRow as error:
                    gathering.reject("", "", "bad_row", f"{name} line {number}: {error}")
    return gathering.catalogue(root)


def _image_paths(path: Place) -> Iterator[tuple[str, str]]:
    """Image id and path; a row that gives none leaves its image unknown to those who name it."""
    try:
        for _, row in read_csv(path, lambda found: _check_columns(path, found)):
            with suppress(BadRow):
                if isinstance(row, dict):
                    yield row["image_id"], inside(row["path"], "path")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"'{path}' is a damaged gzip file: {error}", change="download it again") from error


def _check_columns(path: Place, found: list[str]) -> None:
    if missing := [name for name in ("image_id", "path") if name not in found]:
        raise BadData(
            f"'{path}' has no column {', '.join(missing)}",
            allowed="image_id,height,width,path",
            change="download it again",
        )


def _mention(line: str | BadRow, where: str) -> Mention:
    """A listing; its texts stay apart by language until all listings of the item are there."""
    listing = line if isinstance(line, BadRow) else parse_json(line)
    if isinstance(listing, BadRow):
        raise listing
    if not isinstance(listing, dict) or not isinstance(listing.get("item_id"), str):
        raise BadRow("no JSON object with an item_id of text")
    domain = listing.get("domain_name")
    if not isinstance(domain, str | None):
        raise BadRow(f"domain_name is {shown(domain)}, allowed: text")
    texts = {name: text for name in FIELDS if (text := _text(listing.get(name), name)) is not None}
    others = listing.get("other_image_id") or []
    named = [listing.get("main_image_id"), *(others if isinstance(others, list) else [others])]
    images = [str(image) for image in named if image]
    try:
        "".join(images).encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"an image id is no Unicode text: {error.reason}") from error
    attributes = {"texts": texts, "node": _node(listing.get("node")), "domain_name": domain}
    return Mention(listing["item_id"], where, images, {}, attributes)


def _text(value: Any, field: str) -> Text | None:
    """The entry in the language nearest to American English: en_US, else en_*, else the first.

    A colour may have standardized values alone; its text is "" then.
    """
    given = value if isinstance(value, list) else [{"value": value}]
    found: list[Text] = []
    for entry in given:
        if not isinstance(entry, dict):
            continue
        text, standardized = entry.get("value"), entry.get("standardized_values")
        has_text = isinstance(text, str | int) and text != ""
        if has_text or (field == "color" and _are_texts(standardized)):
            tag = str(entry.get("language_tag", ""))
            rank = 0 if tag == "en_US" else 1 if tag.startswith("en_") else 2
            found.append([rank, tag, text if has_text else "", *([standardized] if _are_texts(standardized) else [])])
    return min(found, key=lambda text: text[0], default=None)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) and value for value in values)


def _node(nodes: Any) -> str:
    """The first path in Amazon's category tree: /Categories/Furniture/Chairs."""
    paths = [node.get("path") for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    return next((path for path in paths if isinstance(path, str)), "")


def _contradicts(text: Text, taken: Text) -> bool:
    """Whether they differ in one language; of colours in the first standardized value where both have one."""
    if text[1] != taken[1]:
        return False
    return bool(text[3][0] != taken[3][0] if len(text) == len(taken) == 4 else text[2] != taken[2])


def _one_language(mentions: list[Mention], notes: Counter[str]) -> Mention:
    """Each text from the listing whose language is nearest; among equals the first listing's.

    A label that another listing gives otherwise in that very language is counted in ``notes``.
    """
    texts: dict[str, Text] = {}
    for mention in mentions:
        for name, text in mention.attributes["texts"].items():
            if name not in texts or text[0] < texts[name][0]:
                texts[name] = text
    given = (mention.attributes["texts"].items() for mention in mentions)
    notes["contradicting_labels"] += sum(
        _contradicts(text, texts[name]) for found in given for name, text in found if name in LABELS
    )
    attributes = {name: text[2] for name, text in texts.items() if name not in LABELS}
    labels = {name: str(texts[name][2]) for name in LABELS if name in texts}
    if len(texts.get("color", [])) == 4:
        _, _, attributes["color_text"], attributes["color_standardized"] = texts["color"]
        labels["color"] = attributes["color_standardized"][0]
    attributes["node"] = next((node for mention in mentions if (node := mention.attributes["node"])), None)
    domains = (mention.attributes["domain_name"] for mention in mentions)
    attributes["domain_names"] = [domain for domain in dict.fromkeys(domains) if domain]
    present = {name: value for name, value in attributes.items() if value}
    return mentions[0]._replace(labels=labels, attributes=present)
