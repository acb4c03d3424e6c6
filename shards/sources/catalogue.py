"""The table of catalogue adapters, and which one a source asks for."""

from __future__ import annotations

from typing import Protocol

from shards.errors import BadData, BadUsage
from shards.places import Place, place, reaching, size_of
from shards.sources import abo, demo, folder, hm, inshop, manifest, myntra, sop
from shards.sources.product import Catalogue

DUPLICATES = ("error", "first", "merge")


class Source(Protocol):
    """Opens the catalogue at a place; see ``open_catalogue``."""

    def __call__(self, root: Place, /, on_duplicate: str = ...) -> Catalogue: ...


SOURCES: dict[str, Source | None] = {
    "folder": folder.catalogue,
    "manifest": manifest.catalogue,
    "abo": abo.catalogue,
    "sop": sop.catalogue,
    "inshop": inshop.catalogue,
    "hm": hm.catalogue,
    "myntra": myntra.catalogue,
    "demo": None,
}
"""Name -> what opens it; the demo is drawn, not found at a place."""
RECOGNIZED = {"manifest": manifest, "abo": abo, "sop": sop, "inshop": inshop, "hm": hm, "myntra": myntra}
"""Adapters that know their tree by its own files, in the order in which they are asked."""


def choose_format(source: str | Place) -> str:
    """The adapter for a source that names none: by the files that it holds, else folder.

    Raises BadUsage for a file of another kind and BadData where there is nothing.
    """
    if source == "demo":
        return "demo"
    path = place(source)
    with reaching(path):
        if path.is_dir():
            return next((name for name, adapter in RECOGNIZED.items() if adapter.recognizes(path)), "folder")
    exists = size_of(path) is not None
    if exists and path.suffix.lower() in manifest.SUFFIXES:
        return "manifest"
    if exists or path.exists():
        raise BadUsage(
            f"'{source}' is a file of unknown kind", allowed=f"a folder, or a file ending in {manifest.ALLOWED}"
        )
    raise BadData(
        f"'{source}' does not exist",
        allowed=f"a folder of photographs, a manifest ({manifest.ALLOWED}), or the word demo",
        change="check the path",
    )


def open_catalogue(source: str | Place, format: str, *, on_duplicate: str = "error", **demo_options: int) -> Catalogue:
    """Open ``source`` by the adapter named ``format``; only the demo takes options.

    on_duplicate: what becomes of a product id that comes twice where it should come once (folder, hm, myntra): "error"
    raises BadData with both places, "first" makes the later a reject, "merge" unites their photographs.
    """
    if format not in SOURCES:
        raise BadUsage(f"unknown format {format!r}", allowed=", ".join(SOURCES))
    if on_duplicate not in DUPLICATES:
        raise BadUsage(f"on_duplicate is {on_duplicate!r}", allowed=", ".join(DUPLICATES))
    opened = SOURCES[format]
    if opened is None:
        return demo.catalogue(**demo_options)
    if demo_options:
        raise BadUsage(f"{', '.join(demo_options)} given with format {format!r}", allowed="with the format demo alone")
    return opened(place(source), on_duplicate)
