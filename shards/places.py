"""A place: a local path, or an address in object storage that behaves like one.

Everything that reads catalogues or data sets takes places and uses the part of pathlib that both kinds have: ``/``,
``name``, ``open``, ``read_bytes``, ``read_text``, ``is_file``, ``is_dir``, ``iterdir``, ``stat().st_size``. Credentials
and endpoints come from where the storage's own tools look for them (AWS_* variables and ~/.aws, gcloud's defaults);
nothing of them is kept.

On a remote place ``is_file``, ``is_dir`` and ``exists`` answer False when the storage refuses or can not be reached:
where that matters ask ``size_of`` or ``entries`` here, which raise.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from shards.errors import BadData, BadUsage, StorageFailure

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"  # the package upath is imported where an address asks for it
REMOTE = {"s3": "s3fs", "gs": "gcsfs"}
"""Scheme -> the package that speaks it; all are in the extra ``s3``."""
ALLOWED = "a path, file://, s3:// or gs://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(file|pipe|memory|data|https?|ftps?|s3|gs):", re.IGNORECASE)
_CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::|[A-Za-z][A-Za-z0-9+.-]*://.*::")
_SECRETS = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)
# Clients raise their own kinds of exception; these are the packages that they come from.
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "asyncio", "fsspec", "s3fs", "requests")


def place(text: str | Place) -> Place:
    """The place that ``text`` names.

    Raises BadUsage for a scheme other than file, s3 and gs, for chained addresses (``a::b``), for credentials or a
    query within an address, where the package that speaks the scheme is not installed, and for what no file can be
    called: nothing at all, a NUL character, half of a surrogate pair.
    """
    _check_name(str(text))
    if not isinstance(text, str):
        return text
    if not text or text.lower() == "file://":
        raise BadUsage(f"'{text}' names no place", allowed=ALLOWED, change="the working directory is .")
    if _CHAIN.match(text):
        raise BadUsage(f"'{redacted(text)}' is a chain of addresses", allowed=ALLOWED, change="name one place")
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    scheme = (found[1] or found[2]).lower()
    if scheme == "file":
        return place(Path(unquote(urlsplit(text).path, errors="surrogateescape")))
    if scheme not in REMOTE or found[1] is None:
        raise BadUsage(f"the scheme of '{redacted(text)}' is not known", allowed=ALLOWED)
    return _remote(text, scheme)


def _check_name(text: str) -> None:
    try:
        # Of a local file any bytes may be the name; Python holds those that are no UTF-8 as surrogates.
        text.encode("utf-8") if _SCHEME.match(text) else os.fsencode(text)
    except UnicodeEncodeError as error:
        raise BadUsage(f"{redacted(text)!r} is no Unicode text: {error.reason}", allowed=ALLOWED) from error
    if "\0" in text:
        raise BadUsage(f"{redacted(text)!r} holds a NUL character", allowed=ALLOWED)


def _remote(text: str, scheme: str) -> UPath:
    if redacted(text) != text:
        raise BadUsage(
            f"'{redacted(text)}' had more in it than a place: user, password, query or fragment",
            allowed=f"{scheme}://BUCKET/PATH",
            change="leave them out; docs/object_storage.md says where credentials are looked for",
        )
    if not urlsplit(text).netloc:
        raise BadUsage(f"'{text}' names no bucket", allowed=f"{scheme}://BUCKET/PATH")
    if importlib.util.find_spec(REMOTE[scheme]) is None:
        raise BadUsage(f"'{text}' needs the package {REMOTE[scheme]}", change="pip install 'skill_fast[s3]'")
    from upath import UPath

    # Cached listings would hide what other processes write.
    return UPath(text.rstrip("/"), use_listings_cache=False)


def absolute(text: str | Place) -> Place:
    """The place that ``text`` names, wherever the process goes."""
    where = place(text)
    return where.absolute() if isinstance(where, Path) else where


def source_name(source: str | Place) -> str:
    """What a source is called where it is noted: slashes at the end make no other place of it."""
    return str(source).rstrip("/") or str(source)


def is_remote(where: Place) -> bool:
    return not isinstance(where, Path)


def redacted(text: str) -> str:
    """``text`` without the user info and the query of an address, for messages.

    >>> redacted("https://me:secret@host/a?token=1")
    'https://host/a'
    """
    return _SECRETS.sub("", text) if "://" in text else text


@contextmanager
def reaching(where: Place) -> Iterator[None]:
    """Turns what a storage's client raises into StorageFailure that names the place; FileNotFoundError stays."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if not is_remote(where) or not _of_storage(error):
            raise
        raise StorageFailure(
            f"'{where}' could not be reached: {type(error).__name__}: {redacted(str(error))}",
            change="look at credentials, endpoint and permissions: docs/object_storage.md",
        ) from error


def _of_storage(error: Exception) -> bool:
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not packages.isdisjoint(_CLIENTS)


def size_of(where: Place) -> int | None:
    """Bytes of a file, None where there is none; raises StorageFailure where the storage can not be asked."""
    with reaching(where):
        try:
            if isinstance(where, Path):
                return where.stat().st_size if where.is_file() else None
            found = where.fs.info(where.path)
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None


def check_is_file(where: Place) -> None:
    """Raise BadData for what is there and no file: a pipe that nobody writes to would be waited for for ever."""
    if isinstance(where, Path) and where.exists() and not where.is_file():
        raise BadData(
            f"'{where}' is no file, but a folder, a pipe or the like",
            allowed="the files that were built",
            change="skill-shards verify names all damage",
        )


def entries(folder: Place) -> dict[str, int | None]:
    """What a folder holds: name -> bytes of a file, None for anything else. One request a thousand entries.

    Object storage knows no empty folders: one that is not there is as empty. Raises FileNotFoundError for a local
    folder that is not there and StorageFailure where the storage can not be asked.
    """
    if isinstance(folder, Path):
        with os.scandir(folder) as found:
            return {entry.name: _bytes_of(entry) for entry in found}
    with reaching(folder):
        try:
            listed = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return {}
    prefix = folder.path.rstrip("/") + "/"
    sizes = {
        item["name"].removeprefix(prefix).rstrip("/"): int(item["size"]) if item["type"] == "file" else None
        for item in listed
        if item["name"].startswith(prefix)
    }
    sizes.pop("", None)  # an empty object that stands for the folder itself
    return sizes


def _bytes_of(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size if entry.is_file() else None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None  # a link that goes round leads to no file


def is_within(inner: Place, outer: Place) -> bool:
    """Whether ``inner`` is ``outer`` or lies below it."""
    if isinstance(inner, Path) and isinstance(outer, Path):
        real, goal = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
        # Two mounts of one folder have two real paths.
        return any(above == goal or _is_same_file(above, goal) for above in (real, *real.parents))
    if isinstance(inner, Path) or isinstance(outer, Path) or inner.protocol != outer.protocol:
        return False
    low, high = (posixpath.normpath(address.path) for address in (inner, outer))
    return low == high or low.startswith(high + "/")


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and os.path.samefile(one, other)
