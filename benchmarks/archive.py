"""Records as they lie on disk (docs/contracts.md, section 4): written, read, checked, found by what they measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import BadData

FOLDER = Path(__file__).with_name("records")
NUMBER = int | float
TYPES: dict[str, Any] = {
    **dict.fromkeys(("unit", "date", "commit", "cpu", "gpu", "data", "device", "can_not", "ratio_to", "dtype"), str),
    **dict.fromkeys(("settings", "quantiles", "phases_ms", "loader", "step_ms", "shapes"), dict),
    **dict.fromkeys(("ratio", "ratio_rounds", "gpus", "steps", "seed", "parameters", "data_wait_share"), NUMBER),
    **dict.fromkeys(("least_bytes", "gb_per_s", "copy_gb_per_s"), NUMBER),
    **dict.fromkeys(("by_round", "gpu_samples"), list),
    "repeats": int | list,  # a list: each repeat's own value
}
"""Of fields that tables, pictures and the regression check take for granted where a record has them."""
OF_NUMBERS = ("quantiles", "phases_ms", "step_ms", "by_round")
"""Their entries are numbers; or null, a round in which a row did not run and a quantile of one repeat."""
NEVER_NULL = ("unit", "date", "settings", "quantiles", "repeats")
"""A record that has nothing to say of them leaves them out."""
SLOWDOWN = "times as long"


@dataclass(frozen=True)
class Record:
    """One line of a records file."""

    fields: Mapping[str, Any]
    file: str
    line: int

    @property
    def what(self) -> str:
        return self.fields["what"]

    @property
    def value(self) -> float | None:
        """None where the row could not be measured; ``fields["can_not"]`` says why."""
        return self.fields.get("value")

    @property
    def unit(self) -> str:
        """Of a slowdown "times as long", which ``feeding`` at first called "times", as if more were better."""
        unit = self.fields.get("unit", "")
        slowdown = unit == "times" and self.kind == "feeding" and self.name.endswith("/training work")
        return SLOWDOWN if slowdown else unit

    @property
    def kind(self) -> str:
        """loader/ours, decode only -> loader"""
        return self.what.partition("/")[0]

    @property
    def name(self) -> str:
        """loader/ours, decode only -> ours, decode only"""
        return self.what.partition("/")[2]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.fields.get("settings") or {}

    @property
    def on_gpu(self) -> bool:
        return bool(self.fields.get("gpu")) and self.fields.get("device", "cuda") != "cpu"

    @property
    def machine(self) -> str:
        """2 x AMD EPYC cores; with a GPU: its name before it."""
        cpu = f"{self.fields.get('cores', '?')} cores of {self.fields.get('cpu', 'an unnamed CPU')}"
        gpus = self.fields.get("gpus") or 1
        return f"{f'{gpus} x ' if gpus > 1 else ''}{self.fields['gpu']}, {cpu}" if self.on_gpu else cpu

    @property
    def folder(self) -> str:
        """The data set's folder; where it lay on some machine says nothing: x/luma/manifest.csv, x/luma -> luma."""
        return folder_name(self.fields.get("data") or "")

    @property
    def data(self) -> str:
        """The data set's name for people: the cache's demo-DESIGNS-SIDE-... is the demo catalogue."""
        return "demo" if self.folder.startswith("demo-") else self.folder

    @property
    def commit(self) -> str:
        """Eight digits, with a plus where the tree held changes that no commit has."""
        return (self.fields.get("commit") or "unknown")[:8] + "+" * bool(self.fields.get("dirty"))

    @property
    def dtype(self) -> str | None:
        """Three kinds did not name theirs at first, and had then run on CPUs alone, in float32."""
        return self.fields.get("dtype") or ("float32" if self.kind in ("arrangements", "evaluate", "faults") else None)

    @property
    def date(self) -> str:
        """UTC, ISO 8601 to the second; sorts as text."""
        return self.fields.get("date", "")

    @property
    def run(self) -> tuple[str, str, str, str]:
        """What ratios may be taken within: one file, one start, one machine, one tree."""
        return self.file, self.date, self.machine, self.commit


def folder_name(data: str) -> str:
    """What a record calls a data set: x/luma/manifest.csv, x/luma/ -> luma."""
    return next((part for part in reversed(data.split("/")) if part not in ("", "manifest.csv")), "")


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """The file holds these records, or after a kill at any moment those that it held before; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_text(lines, encoding="utf-8")
        return
    path = path.resolve()  # a link stays one
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put records behind those of a file that several processes may write to; half a last line spoils none of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            file.write(b"\n" * (file.read(1) != b"\n"))
        file.write("".join(json.dumps(record) + "\n" for record in records).encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, *, damaged: list[str] | None = None) -> list[Record]:
    """The records of a file, or of all ``*.jsonl`` below a folder, in order of their dates.

    What is no record (not JSON, as the half of a last line is not; no "what"; a "value" that is neither a finite number
    nor null, null without a reason; fields of another type than theirs) raises BadData that names file and line; with
    ``damaged`` it is left out, and that list gets what would have been said.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if path.is_dir() is False and not path.is_file():
        raise BadData(f"no records at '{path}'", allowed="a .jsonl file or a folder of them", change="check the path")
    found = []
    for file in files:
        shown = file.relative_to(path).as_posix() if path.is_dir() else file.name
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                found.append(Record(_checked(line, f"{file}:{number}"), shown, number))
            except BadData as failure:
                if damaged is None:
                    raise
                damaged.append(failure.came)
    return sorted(found, key=lambda record: (record.date, record.file, record.line))


def newest(records: Iterable[Record]) -> list[Record]:
    """Of the records that measured the same thing on the same machine only those of the latest run."""
    latest: dict[tuple[str, ...], Record] = {}
    for record in records:
        latest[subject(record)] = record
    return list(latest.values())


def subject(record: Record, *, any_machine: bool = False) -> tuple[str, ...]:
    """What two records must share to be repeats of one measurement; of any machine: workers follow from its cores."""
    about = [record.fields.get(name) for name in ("shapes", "settings", "launch", "seed", "device")]
    about += [record.dtype, record.folder]
    machine = () if any_machine else (str(record.fields.get("workers")), record.machine)
    return record.what, record.unit, json.dumps(about, sort_keys=True), *machine


def newest_run(records: Iterable[Record]) -> list[Record]:
    """The records of the latest run only; those from a GPU, where there are any, before those from a CPU."""
    found = list(records)
    found = [record for record in found if record.on_gpu] or found
    return [record for record in found if record.run == found[-1].run] if found else []


def _checked(line: str, where: str) -> dict[str, Any]:
    def refused(what: str) -> BadData:
        return BadData(
            f"{where}: {what}",
            allowed='a JSON object with "what", and "value" a finite number, or null beside "can_not"',
            change="delete the line, or measure again",
        )

    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise refused(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("what"), str):
        raise refused('no object with a "what"')
    value = fields.get("value")
    if value is None and not fields.get("can_not"):
        raise refused(f"'{fields['what']}' has no value, and no reason for it")
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise refused(f"the value of '{fields['what']}' is {value!r}")
    for name, kind in TYPES.items():
        given = fields.get(name)
        wrong = not isinstance(given, kind) or isinstance(given, bool)
        if name in fields and (wrong if given is not None else name in NEVER_NULL):
            raise refused(f"'{name}' of '{fields['what']}' is {given!r}")
    for name in OF_NUMBERS:
        held = fields.get(name) or ()
        for entry in held.values() if isinstance(held, dict) else held:
            if isinstance(entry, bool) or not isinstance(entry, NUMBER | None):
                raise refused(f"'{name}' of '{fields['what']}' holds {entry!r}")
    return fields
