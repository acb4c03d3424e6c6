"""What an interrupted build has left, and how much of it the same command may take over."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from shards.counting import Progress
from shards.errors import BadUsage
from shards.in_order import arrive
from shards.index import APPEND_FOLDER, DATASET, SHARD_NAME, VERSION
from shards.new_file import write_new
from shards.output import JOURNAL, OWN_FOLDERS, OWN_NAMES, Output
from shards.parts import IDENTITY, Part, framed, head_name, is_head, loaded, rows_fault, rows_name
from shards.places import reaching
from shards.rejects import Reject
from shards.sources.product import Catalogue, Product
from shards.versions import versions_here
from shards.writer import index_name

Entries = Iterator[Product | Reject]


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


@dataclass(frozen=True)
class Identity:
    """Two builds with equal ones write the same bytes, as long as the catalogue does not change."""

    source: str
    options: dict[str, Any]
    versions: dict[str, str] = field(default_factory=_versions)

    def dumped(self) -> bytes:
        fields = {"source": self.source, "options": self.options, "versions": self.versions}
        return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()

    def difference(self, stored: Any) -> str:
        """How ``stored``, the JSON of another one, differs; "" where it does not."""
        own = json.loads(self.dumped())
        if stored == own:
            return ""
        try:
            before = {"source": stored["source"], **stored["options"], **stored["versions"]}
        except (KeyError, TypeError):
            return f"{IDENTITY} is damaged"
        now = {"source": own["source"], **own["options"], **own["versions"]}
        changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        return "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in changed)


def prepare(output: Output, overwrite: bool) -> None:
    """Raise BadUsage where the output's folder may not be written to; nothing is changed yet."""
    names = output.sizes()
    foreign = sorted(name for name in names if not OWN_NAMES.fullmatch(name) and name not in OWN_FOLDERS)
    foreign += [APPEND_FOLDER] if APPEND_FOLDER in names and DATASET not in names else []
    # Both together are a build that was interrupted when nothing but tidying up was left.
    whole = DATASET in names and JOURNAL not in names
    if DATASET not in names and JOURNAL not in names and any(map(SHARD_NAME.fullmatch, names)) and not overwrite:
        raise BadUsage(
            f"folder '{output.folder}' holds shards, but neither {DATASET} nor the journal of an unfinished build",
            allowed="a folder that is empty, does not exist yet or was left by an unfinished build",
            change=f"bring {DATASET} back from a copy, take another folder, or pass --overwrite to lose these shards",
        )
    if (foreign or whole) and not overwrite:
        raise _occupied(output, "a finished data set" if whole else f"other things: {', '.join(foreign[:5])}")


def finished(output: Output) -> bool:
    """Whether the folder holds a finished data set, which only ``overwrite`` lets a build replace."""
    return DATASET in output.sizes()


def already_finished(output: Output, identity: Identity) -> bool:
    """Whether this very build was interrupted behind its last step; raises BadUsage for another finished one."""
    if DATASET not in output.sizes():
        return False
    stored = _stored(output)
    if stored is None or identity.difference(stored):
        raise _occupied(output, "a finished data set")
    return True


def _occupied(output: Output, held: str) -> BadUsage:
    return BadUsage(
        f"folder '{output.folder}' holds {held}",
        allowed="a folder that is empty, does not exist yet or was left by an unfinished build",
        change="take another folder, or pass --overwrite: it replaces the shards and leaves other files alone",
    )


def begin(
    output: Output, identity: Identity, catalogue: Catalogue, done: Progress, show: Callable[[Progress], None] | None
) -> tuple[list[Part], Entries]:
    """The finished parts that fit, and the entries of the catalogue behind them; all else of a build is removed."""
    names = output.sizes()
    # dataset.json first: at no instant does it describe files that are gone.
    output.remove([DATASET] if DATASET in names else [])
    stored = _stored(output)
    parts = _parts(output) if stored is not None else []
    if difference := identity.difference(stored) if stored is not None else "":
        _say(f"'{output.folder}': {difference}: starting over, {_shards(len(parts))} dropped")
        parts = []
    elif stored is None and DATASET not in names and (left := sum(map(bool, map(OWN_NAMES.fullmatch, names)))):
        _say(f"'{output.folder}': {left} files of an unfinished build have no journal and are dropped")
    parts, entries = _fitting(output, parts, catalogue, done, show) if parts else ([], iter(catalogue.entries))
    _remove_all_but(output, parts)
    if stored is None or difference:
        write_new(output.journal / IDENTITY, identity.dumped())
    return parts, entries


def _stored(output: Output) -> Any:
    if IDENTITY not in output.journal_sizes():
        return None
    with reaching(output.journal):
        text = (output.journal / IDENTITY).read_bytes()
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _parts(output: Output) -> list[Part]:
    """The parts that were written, up to the first that lacks or can not be read."""
    parts: list[Part] = []
    heads = {name for name in output.journal_sizes() if is_head(name)}
    while (name := head_name(len(parts))) in heads:
        with reaching(output.journal):
            text = (output.journal / name).read_bytes()
        try:
            parts.append(loaded(text))
        except ValueError:
            break
    if len(parts) < len(heads):
        fault = f"{JOURNAL}/{head_name(len(parts))} is missing or damaged"
        _say(f"'{output.folder}': {fault}: {_shards(len(heads) - len(parts))} dropped")
    return parts


def _fitting(
    output: Output, parts: list[Part], catalogue: Catalogue, done: Progress, show: Callable[[Progress], None] | None
) -> tuple[list[Part], Entries]:
    """Go through the catalogue along the parts, until one does not fit."""
    entries: Entries = iter(catalogue.entries)
    sizes, journal_sizes = output.sizes(), output.journal_sizes()
    fitting: list[Part] = []
    for part in parts:
        fault = _file_fault(output, part, sizes, journal_sizes) or _catalogue_fault(part, entries)
        if fault:
            kept = f"going on behind {fitting[-1].shard.name}" if fitting else "starting over"
            _say(f"'{output.folder}': {fault}: {kept}, {_shards(len(parts) - len(fitting))} dropped")
            # What was read of the catalogue to find that out is read once more.
            return fitting, islice(iter(catalogue.entries), sum(part.entries for part in fitting), None)
        fitting.append(part)
        done.resume(part.done)
        if show is not None:
            show(done)
    return fitting, entries


def _file_fault(output: Output, part: Part, sizes: dict[str, int | None], journal: dict[str, int | None]) -> str:
    shard, rows = part.shard, rows_name(part.number)
    for name, found, expected in (
        (shard.name, sizes.get(shard.name), shard.bytes),
        (index_name(shard.name), sizes.get(index_name(shard.name)), part.index_bytes),
        (f"{JOURNAL}/{rows}", journal.get(rows), part.rows_bytes),
    ):
        if found != expected:
            return f"{name} has {found:,} bytes, not {expected:,}" if found is not None else f"{name} is missing"
    return rows_fault(part, output.journal / rows)


def _catalogue_fault(part: Part, entries: Entries) -> str:
    digest, count = hashlib.sha256(), 0
    for entry in islice(entries, part.entries):
        digest.update(framed(arrive(entry).identity))
        count += 1
    if count != part.entries or digest.hexdigest() != part.digest:
        return f"the catalogue has changed: products or photographs of {part.shard.name} are not what they were"
    if part.last and next(entries, None) is not None:
        return f"the catalogue has changed: there is more of it behind {part.shard.name}"
    return ""


def _remove_all_but(output: Output, parts: list[Part]) -> None:
    kept = {name for part in parts for name in (part.shard.name, index_name(part.shard.name))}
    kept_parts = {name for part in parts for name in (head_name(part.number), rows_name(part.number))}
    # Heads before what they count.
    journal = output.journal_sizes()
    output.remove_parts(sorted((name for name in journal if name not in {*kept_parts, IDENTITY}), key=_rows_last))
    names = output.sizes()
    output.remove(name for name in names if OWN_NAMES.fullmatch(name) and name not in kept)
    output.remove_append()


def _rows_last(name: str) -> bool:
    return name.endswith(".rows")


def _shards(count: int) -> str:
    return f"{count} finished shard{'s' * (count != 1)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
