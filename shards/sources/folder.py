"""A folder of photographs: root/[product_type/]product_id/*.jpg, in natural order (2 before 10), local or remote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import BadData
from shards.places import Place, reaching
from shards.sources.gathering import Gathering, Mention
from shards.sources.product import Catalogue

if TYPE_CHECKING:
    from upath import UPath

_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2", ".j2k")
_EXACT = (".png", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
SUFFIXES = frozenset((*_LOSSY, *_EXACT))
HIDDEN = frozenset({"thumbs.db", "desktop.ini"})
"""What Windows leaves in folders, beside the names that begin with a dot."""
LAYOUT = "root/product_id/*.jpg or root/product_type/product_id/*.jpg"


@dataclass
class _Listing:
    """What one folder holds, each in natural order."""

    images: list[str] = field(default_factory=list)
    """By their suffixes."""
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files without a photograph's suffix, and links to folders where these do not count."""
    links: set[str] = field(default_factory=set)
    """Those of ``others`` that are links to folders."""
    hidden: int = 0
    """Names that are passed over, folders with all that is in them."""

    def sort(self) -> None:
        for names in (self.images, self.folders, self.others):
            in_natural_order(names)


_List = Callable[[str, bool], _Listing]
"""(path of a folder within the root, whether links to folders count) -> its listing."""


def catalogue(root: Place, on_duplicate: str = "error") -> Catalogue:
    """List ``root``; a folder that holds photographs is a product, one that holds such folders a product type.

    What is listed goes to disk at once, so memory is that of the largest single folder's names; of a remote ``root``
    that of all names. Raises BadData where nothing in it is a product, or where a product id is there twice.
    """
    if not root.is_dir():
        raise BadData(
            f"folder '{root}' does not exist", allowed=f"a folder laid out as {LAYOUT}", change="check the path"
        )
    walk = _Walk(root, on_duplicate)
    walk.go()
    if not walk.images:
        others = f"; its {walk.others:,} files have other suffixes, as {walk.first_other}" if walk.others else ""
        raise BadData(
            f"folder '{root}' holds no photographs{others}",
            allowed=f"{LAYOUT}, with the suffixes {' '.join(sorted(SUFFIXES))}",
            change="check the path and the layout",
        )
    if not walk.products:
        raise BadData(
            f"no folder in '{root}' is a product: its {walk.images} photographs lie at another depth",
            allowed=LAYOUT,
            change="give each product a folder of its own, or list the photographs in a manifest",
        )
    return walk.gathering.catalogue(root)


class _Walk:
    """Goes through the folders once and gathers what they hold."""

    def __init__(self, root: Place, on_duplicate: str) -> None:
        self.gathering = Gathering(lambda name: root / name, on_duplicate=on_duplicate)
        self.products = 0
        """With photographs."""
        self.images = 0
        self.others = 0
        self.first_other = ""
        self._root = root
        self._listing: _List = _local(root) if isinstance(root, Path) else _remote(root)

    def go(self) -> None:
        top = self._list("", True)
        self._misplaced("", top.images, "lies in the root, beside the products")
        self._no_photographs("", top)
        for name in top.folders:
            listing = self._list(name, True)
            if listing.images or not listing.folders:
                self._product(name, listing, "")
                continue
            self._no_photographs(name, listing)
            for inner in listing.folders:
                path = f"{name}/{inner}"
                self._product(path, self._list(path, True), text_of(name))

    def _product(self, path: str, listing: _Listing, product_type: str) -> None:
        product_id = text_of(path.rpartition("/")[2])
        if product_id:
            names = [f"{path}/{name}" for name in listing.images]
            labels = {"product_type": product_type} if product_type else {}
            self.gathering.add(Mention(product_id, f"folder '{self._named(path)}'", names, labels, {}))
            self.products += bool(names)
            self.images += len(names)
        else:
            self._misplaced(path, listing.images, "lies in a folder without a name")
        self._no_photographs(path, listing, product_id)
        for name in listing.folders:
            self._beneath(f"{path}/{name}", f"lies deeper than the product's folder '{self._named(path)}'")

    def _beneath(self, top: str, why: str) -> None:
        # No recursion, as folders may lie in each other more often than Python's calls may.
        waiting = [top]
        while waiting:
            path = waiting.pop()
            # Links to folders are not followed here: they may go round.
            listing = self._list(path, False)
            self._misplaced(path, listing.images, why)
            self._no_photographs(path, listing)
            waiting += [f"{path}/{name}" for name in reversed(listing.folders)]

    def _misplaced(self, path: str, names: list[str], why: str) -> None:
        for name in names:
            self.gathering.reject("", self._named(f"{path}/{name}" if path else name), "outside_product", why)
        self.images += len(names)

    def _no_photographs(self, path: str, listing: _Listing, product_id: str = "") -> None:
        for name in listing.others:
            where = self._named(f"{path}/{name}" if path else name)
            suffix = text_of(os.path.splitext(name)[1])
            why = f"the suffix '{suffix}' is none of a photograph" if suffix else "a name without a suffix"
            why = "a link to a folder" if name in listing.links else why
            self.gathering.reject(product_id, where, "not_a_photograph", why)
            self.first_other = self.first_other or f"'{where}'"
        self.others += len(listing.others)

    def _list(self, path: str, links: bool) -> _Listing:
        listing = self._listing(path, links)
        if listing.hidden:
            self.gathering.noted["hidden_names"] += listing.hidden
        return listing

    def _named(self, path: str) -> str:
        return text_of(f"{self._root}/{path}")


def text_of(name: str | Place) -> str:
    """A file name as Unicode text: bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def natural_key(name: str) -> str:
    """Sort key in which numbers count by value: a2 < a10. Names that differ in case or leading zeros only are equal."""
    # A number becomes NUL, its count of digits, its digits: NUL so that it sorts before any text.
    return re.sub("[0-9]+", _sortable, name.lower())


def in_natural_order(names: list[str]) -> list[str]:
    """``names``, sorted in place; those with one natural key by themselves."""
    # Two sorts by texts need a fraction of the memory of one by tuples: a folder may hold millions.
    names.sort()
    names.sort(key=natural_key)
    return names


def _sortable(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\0{chr(len(digits))}{digits}"


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN


def _local(root: Path) -> _List:
    def listing(path: str, links: bool) -> _Listing:
        found = _Listing()
        with os.scandir(f"{root}/{path}") as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    found.hidden += 1
                    continue
                try:
                    folder, linked = entry.is_dir(follow_symlinks=links), entry.is_symlink() and entry.is_dir()
                except OSError:  # a link that goes round: reading it says so, and makes it a reject with its errno
                    found.images.append(entry.name)
                    continue
                if folder:
                    found.folders.append(entry.name)
                elif _is_image(entry.name) and not linked:
                    found.images.append(entry.name)
                else:
                    found.others.append(entry.name)
                    if linked:
                        found.links.add(entry.name)
        found.sort()
        return found

    return listing


def _remote(root: UPath) -> _List:
    """All names in one listing: a request a thousand of them, where one a folder could take hours."""
    listings: dict[str, _Listing] = {"": _Listing()}
    hidden: set[str] = set()
    for parts in _names_within(root):
        # Up to the first hidden name: what is within a hidden folder counts as that folder.
        shown = next((place for place, part in enumerate(parts) if _is_hidden(part)), len(parts))
        for depth in range(1, min(shown + 1, len(parts))):
            path = "/".join(parts[:depth])
            if path not in listings:
                listings[path] = _Listing()
                listings["/".join(parts[: depth - 1])].folders.append(parts[depth - 1])
        own = listings["/".join(parts[: min(shown, len(parts) - 1)])]
        if shown < len(parts):
            name = "/".join(parts[: shown + 1])
            own.hidden += name not in hidden
            hidden.add(name)
        elif _is_image(parts[-1]):
            own.images.append(parts[-1])
        else:
            own.others.append(parts[-1])
    for listing in listings.values():
        listing.sort()
    return lambda path, links: listings[path]


def _names_within(root: UPath) -> Iterator[list[str]]:
    with reaching(root):
        found = root.fs.find(root.path)
    prefix = root.path.rstrip("/") + "/"
    return (path.removeprefix(prefix).split("/") for path in found)
