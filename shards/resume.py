"""What an interrupted build has left, and how much of it the same command may take over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from shards.counting import Progress
from shards.errors import BadUsage
from shards.identity import Identity
from shards.in_order import arrive
from shards.index import APPEND_FOLDER, DATASET, SHARD_NAME
from shards.new_file import write_new
from shards.output import Output
from shards.own_files import BUILT, JOURNAL, OWN_FOLDERS, OWN_NAMES
from shards.parts import IDENTITY, Covered, Part, head_name, is_head, loaded, rows_fault, rows_name
from shards.places import reaching
from shards.rejects import Reject
from shards.sources.product import Catalogue, Product
from shards.writer import index_name

Entries = Iterator[Product | Reject]


def prepare(output: Output, overwrite: bool) -> None:
    """Raise BadUsage where the output's folder may not be written to; nothing is changed yet."""
    names = output.sizes()
    foreign = sorted(name for name in names if not OWN_NAMES.fullmatch(name) and name not in OWN_FOLDERS)
    foreign += [APPEND_FOLDER] if APPEND_FOLDER in names and DATASET not in names else []
    if (unowned := unowned_files(output)) and not overwrite:
        what = "shards" if any(map(SHARD_NAME.fullmatch, unowned)) else f"'{unowned[0]}'"
        raise BadUsage(
            f"folder '{output.folder}' holds {what}, but neither {DATASET} nor the journal of an unfinished build",
            allowed="a folder that is empty, does not exist yet or was left by an unfinished build",
            change=f"bring {DATASET} back from a copy, take another folder, or pass --overwrite to lose {what}",
        )
    if DATASET in names and BUILT not in names and not overwrite:
        raise occupied(output, "a finished data set")
    if foreign and DATASET not in names and not overwrite:
        raise occupied(output, f"other things: {', '.join(foreign[:5])}")


def unowned_files(output: Output) -> list[str]:
    """Files named as a build's are, where nothing says that one wrote them: they may be somebody's tables."""
    names = output.sizes()
    if DATASET in names or output.journal_sizes():
        return []
    return sorted(name for name in names if OWN_NAMES.fullmatch(name))


def finished(output: Output) -> bool:
    """Whether the folder holds a finished data set, which only ``overwrite`` lets a build replace."""
    return DATASET in output.sizes()


def occupied(output: Output, held: str) -> BadUsage:
    return BadUsage(
        f"folder '{output.folder}' holds {held}",
        allowed="a folder that is empty, does not exist yet, was left by an unfinished build or built by this command",
        change="take another folder, or pass --overwrite: it replaces the shards and leaves other files alone",
    )


def begin(
    output: Output, identity: Identity, catalogue: Catalogue, done: Progress, show: Callable[[Progress], None] | None
) -> tuple[list[Part], Covered, Entries]:
    """The finished parts that fit, what they cover, and the entries behind that; all else of a build is removed."""
    names = output.sizes()
    if DATASET in names:
        # An append without the data set that it is for would keep the same command out, as something of others.
        output.remove_append()
        # Before anything else of the data set: at no instant does it describe files that are gone.
        output.remove([DATASET])
    stored = _stored(output)
    parts = _parts(output) if stored is not None else []
    if difference := identity.difference(stored) if stored is not None else "":
        _say(f"'{output.folder}': {difference}: starting over, {_shards(len(parts))} dropped")
        parts = []
    elif stored is None and DATASET not in names and (left := sum(map(bool, map(OWN_NAMES.fullmatch, names)))):
        _say(f"'{output.folder}': {left} files of an unfinished build have no journal and are dropped")
    parts, covered, entries = _fitting(output, parts, catalogue, done, show)
    _remove_all_but(output, parts)
    if stored is None or difference:
        write_new(output.journal / IDENTITY, identity.dumped())
    return parts, covered, entries


def _stored(output: Output) -> Any:
    if IDENTITY not in output.journal_sizes():
        return None
    with reaching(output.journal):
        text = (output.journal / IDENTITY).read_bytes()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
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
) -> tuple[list[Part], Covered, Entries]:
    """Go through the catalogue along the parts, until one does not fit."""
    entries: Entries = iter(catalogue.entries)
    sizes, journal_sizes = output.sizes(), output.journal_sizes()
    fitting: list[Part] = []
    covered = Covered()
    for part in parts:
        before = covered.copy()
        fault = _file_fault(output, part, sizes, journal_sizes) or _catalogue_fault(part, entries, covered)
        if fault:
            kept = f"going on behind {fitting[-1].shard.name}" if fitting else "starting over"
            _say(f"'{output.folder}': {fault}: {kept}, {_shards(len(parts) - len(fitting))} dropped")
            # What was read of the catalogue to find that out is read once more.
            return fitting, before, islice(iter(catalogue.entries), sum(part.entries for part in fitting), None)
        fitting.append(part)
        done.resume(part.done)
        if show is not None:
            show(done)
    return fitting, covered, entries


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


def _catalogue_fault(part: Part, entries: Entries, covered: Covered) -> str:
    count = 0
    for entry in islice(entries, part.entries):
        covered.add(arrive(entry).identity)
        count += 1
    if count != part.entries or covered.hexdigest() != part.digest:
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
