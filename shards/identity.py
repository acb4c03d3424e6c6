"""What decides the bytes of a data set: where it comes from, with which options, and who writes it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.index import VERSION
from shards.versions import versions_here


def _versions() -> dict[str, str]:
    """What decides the bytes of a shard beside source and options: the code itself, and what decodes and encodes."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "format": str(VERSION),
        "code": code.hexdigest()[:16],
        **dict(version.rsplit(" ", 1) for version in versions_here()),
    }


def same_option(one: Any, other: Any) -> bool:
    """Whether two options are, the order of names included: in another one the same shares make other splits."""
    return bool(one == other) and (not isinstance(one, dict) or list(one) == list(other))


@dataclass(frozen=True)
class Identity:
    """Two builds with equal ones write the same bytes, as long as the catalogue does not change."""

    source: str
    options: dict[str, Any]
    versions: dict[str, str] = field(default_factory=_versions)

    def dumped(self) -> bytes:
        # As JSON in UTF-8 can hold it: of a local name any bytes may be.
        source = os.fsencode(self.source).decode("utf-8", "backslashreplace")
        fields = {"source": source, "options": self.options, "versions": self.versions}
        return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()

    def difference(self, stored: Any) -> str:
        """How ``stored``, the JSON of another one, differs; "" where it does not."""
        own = json.loads(self.dumped())
        try:
            before = {"source": stored["source"], **stored["options"], **stored["versions"]}
        except (KeyError, TypeError):
            return "what was noted of the build is damaged"
        now = {"source": own["source"], **own["options"], **own["versions"]}
        changed = [
            name for name in sorted(before.keys() | now.keys()) if not same_option(before.get(name), now.get(name))
        ]
        return "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in changed)
