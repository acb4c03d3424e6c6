"""The table of catalogue adapters, and which one a source asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shards.errors import BadData, BadUsage
from shards.sources import demo, folder, manifest
from shards.sources.product import Catalogue

SOURCES: dict[str, Callable[..., Catalogue]] = {
    "folder": folder.catalogue,
    "manifest": manifest.catalogue,
    "demo": demo.catalogue,
}
MANIFEST_NAMES = tuple(f"manifest{suffix}" for suffix in manifest.SUFFIXES)


def choose_format(source: str) -> str:
    """The adapter for a source that names none: demo, a manifest file or a folder with one, else folder."""
    path = Path(source)
    if source == "demo":
        return "demo"
    if path.is_dir():
        return "manifest" if manifest_within(path) else "folder"
    if path.is_file() and path.suffix.lower() in manifest.SUFFIXES:
        return "manifest"
    if path.exists():
        raise BadUsage(
            f"'{source}' is a file of unknown kind", allowed=f"a folder, or a file ending in {manifest.ALLOWED}"
        )
    raise BadData(
        f"'{source}' does not exist",
        allowed=f"a folder of photographs, a manifest ({manifest.ALLOWED}), or the word demo",
        change="check the path",
    )


def manifest_within(folder_path: Path) -> Path | None:
    return next((folder_path / name for name in MANIFEST_NAMES if (folder_path / name).is_file()), None)


def open_catalogue(source: str, format: str, **demo_options: int) -> Catalogue:
    """Open ``source`` by the adapter named ``format``; only the demo takes options."""
    if format not in SOURCES:
        raise BadUsage(f"unknown format {format!r}", allowed=", ".join(SOURCES))
    if format == "demo":
        return demo.catalogue(**demo_options)
    if demo_options:
        raise BadUsage(f"{', '.join(demo_options)} given with format {format!r}", allowed="with the format demo alone")
    path = Path(source)
    if format == "manifest" and path.is_dir():
        path = manifest_within(path) or path / MANIFEST_NAMES[0]
    return SOURCES[format](path)
