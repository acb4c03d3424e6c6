"""A checkpoint's manifest: which files belong to it, and whether they are what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skill_fast.engine.storage import hash_file

FORMAT, VERSION = "skill-checkpoint", 1


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds and which run it belongs to."""

    step: int
    world_size: int
    layout: str
    """Fingerprint of the flat groups: teacher shards of another one do not fit."""
    dataset: str
    config: dict[str, Any]
    files: dict[str, dict[str, Any]]
    """Path in the folder -> {"bytes", "sha256"}."""

    def to_text(self) -> str:
        """JSON whose last entry is the sha256 of the rest."""
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps({**body, "manifest_sha256": _digest(body)}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Read and verify; raises ValueError with what is wrong."""
        try:
            body = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"manifest.json is not JSON (line {error.lineno})") from error
        if not isinstance(body, dict) or body.pop("manifest_sha256", None) != _digest(body):
            raise ValueError("manifest.json does not match its own sha256")
        if (body.pop("format"), body.pop("version")) != (FORMAT, VERSION):
            raise ValueError(f"manifest.json is not a {FORMAT} of version {VERSION}")
        return cls(**body)


def check_folder(folder: Path) -> tuple[Manifest | None, list[str]]:
    """The manifest (None where it can not be read) and every fault found: missing, cut, altered or foreign files."""
    try:
        manifest = Manifest.from_text((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ["manifest.json is missing: the checkpoint was never finished"]
    except (OSError, ValueError) as error:
        return None, [str(error)]
    faults = []
    for name, entry in manifest.files.items():
        fault = _fault(folder / name, entry)
        if fault:
            faults.append(f"{name} {fault}")
    return manifest, faults


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for every dotted key that differs, sorted; what is missing reads as (none)."""
    before, after = dict(_leaves(_as_json(old))), dict(_leaves(_as_json(new)))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if _shown(before, key) != _shown(after, key)
    ]


def _fault(path: Path, entry: Mapping[str, Any]) -> str | None:
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"has {size} bytes, not {entry['bytes']}"
        return None if hash_file(path)["sha256"] == entry["sha256"] else "does not match its sha256"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can not be read ({error.strerror})"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """As it comes back from a file: tuples are lists there, keys are strings."""
    return json.loads(json.dumps(value))


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}" if where else key)
    else:
        yield where, value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "(none)"
