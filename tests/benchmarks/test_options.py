"""Command lines of the benchmarks: what cannot be measured is refused with exit code 2, for every number they take."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench, faults, options

DATA, OUT = ["--data", "d"], ["--out", "o.jsonl"]
COMMANDS: dict[str, list[str]] = {
    "arrangements": DATA, "evaluate": [], "faults": DATA, "feeding": DATA + OUT, "kernels": OUT, "loader": DATA,
    "peers": DATA, "scaling": OUT, "shards": [], "step": OUT, "train": DATA,
    "ranks": ["--stage", "0", *DATA, "--precision", "fp32", *OUT],
}  # fmt: skip
"""What each command needs beside what is tried."""
BELOW = {"count": "0", "count_or_none": "-1", "seconds": "-1", "above_0": "0"}


class Ran(Exception):
    """The arguments were taken."""


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    found: list[argparse.ArgumentParser] = []

    def taken(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        found.append(self)
        raise Ran

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", taken)
    with pytest.raises(Ran):
        importlib.import_module(f"benchmarks.{module}").main([])
    monkeypatch.undo()
    return found[0]


@pytest.mark.parametrize("module", COMMANDS)
def test_every_number_of_every_command_has_a_range_and_refuses_what_lies_below(module, monkeypatch, capsys):
    parser = parser_of(module, monkeypatch)
    tried = set()
    for action in parser._actions:
        kind = getattr(action.type, "__name__", "")
        if kind in ("Path", "") or action.choices or (module, action.dest) == ("evaluate", "count"):
            continue
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([*COMMANDS[module], action.option_strings[0], BELOW[kind]])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert f"{action.option_strings[0]}: '{BELOW[kind]}' can not be carried out; allowed: " in said
        tried.add(action.dest)
    assert module == "evaluate" or tried


@pytest.mark.parametrize(
    ("take", "good", "bad"),
    [
        (options.count, ["1", "12"], ["0", "-3", "1.5", "many", "", "nan"]),
        (options.count_or_none, ["0", "7"], ["-1", "0.5"]),
        (options.seconds, ["0", "2.5"], ["-0.1", "nan", "inf", "soon"]),
        (options.above_0, ["0.1", "inf"], ["0", "-5", "nan", "soon"]),
    ],
)
def test_what_a_range_takes(take: Callable[[str], float], good: Sequence[str], bad: Sequence[str]):
    assert [take(text) for text in good] == [float(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r"allowed: .* change the option"):
            take(text)


def test_turns_blocks_and_budgets_that_make_no_median_are_refused(tmp_path: Path, capsys):
    arrangements = importlib.import_module("benchmarks.arrangements")
    assert arrangements.main([*DATA, "--turns", "1"]) == 2
    assert faults.main([*DATA, "--steps", "30", "--block", "25"]) == 2
    assert "--steps 50" in capsys.readouterr().err
    assert bench.main(["--budget-s", "nan"]) == 2
    assert importlib.import_module("benchmarks.evaluate").main(["--count", "0"]) == 2
