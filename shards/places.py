"""A place: a local path, or an address in object storage that behaves like one.

Everything that reads catalogues or data sets takes places and uses the part of pathlib that both kinds have: ``/``,
``name``, ``open``, ``read_bytes``, ``read_text``, ``is_file``, ``is_dir``, ``iterdir``, ``stat().st_size``. Credentials
and endpoints come from where the storage's own tools look for them (AWS_* variables and ~/.aws, gcloud's defaults);
nothing of them is kept.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upath import UPath

from shards.errors import BadUsage

Place = Path | UPath
REMOTE = {"s3": "s3fs", "gs": "gcsfs"}
"""Scheme -> the package that speaks it; all are in the extra ``s3``."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|pipe:")


def place(text: str | Place) -> Place:
    """The place that ``text`` names; raises BadUsage for a scheme other than file, s3 and gs, or a missing package."""
    if not isinstance(text, str):
        return text
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    scheme = (found[1] or "pipe").lower()
    if scheme == "file":
        return Path(unquote(urlsplit(text).path))
    if scheme not in REMOTE:
        raise BadUsage(f"the scheme of '{text}' is not known", allowed="a path, file://, s3:// or gs://")
    try:
        return UPath(text)
    except ImportError as error:
        raise BadUsage(
            f"'{text}' needs the package {REMOTE[scheme]}: {error}", change="pip install 'skill_fast[s3]'"
        ) from error


def is_remote(where: Place) -> bool:
    return not isinstance(where, Path)
