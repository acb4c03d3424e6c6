"""skill-shards: build, append, merge, verify, repair, look at shards of product photographs."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from shards.build import Progress, build
from shards.errors import BadData, BadUsage, exit_with
from shards.options import parser
from shards.places import place
from shards.progress import ProgressLine, bytes_line
from shards.selection import Selection, parse_split
from shards.sources.catalogue import choose_format
from shards.summary import build_lines, printable, summarize, summary_lines

DEMO_OPTIONS = ("designs", "photo_side", "seed")
SHOWN_FINDINGS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; docs/exit_codes.md lists them."""
    for stream in (sys.stdout, sys.stderr):
        # Of a file any bytes may be the name, and a terminal's encoding may lack a label's letters.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = parser(__doc__ or "").parse_args(argv)
    return exit_with(lambda: COMMANDS[options.command](options))


def _build(options: argparse.Namespace) -> int:
    console = Console(stderr=True, highlight=False)
    taken = _format_of(options)
    demo = {name: getattr(options, name) for name in DEMO_OPTIONS if getattr(options, name) is not None}
    chosen = Selection(
        types=options.types,
        cap_per_type=options.cap_per_type,
        split=() if options.split is None else parse_split(options.split),
    )
    with ProgressLine(console) as line:
        dataset = build(
            options.source,
            place(options.out),
            format=taken,
            preprocess=options.preprocess,
            max_side=options.max_side,
            jpeg_quality=options.jpeg_quality,
            shard_mib=options.shard_mib,
            crop_to_item=options.crop_to_item,
            drop_duplicates=options.drop_duplicates,
            selection=chosen,
            on_duplicate=options.on_duplicate,
            workers=options.workers,
            engine=options.engine,
            ray_address=options.ray_address,
            overwrite=options.overwrite,
            progress=line.show,
            **demo,
        )
    if line.last is None:
        print(f"{options.out}: already built, nothing to do; {dataset['counts']['products']:,} products")
        return 0
    print(*build_lines(place(options.out), dataset, line.last, line.seconds), sep="\n")
    return 0


def _append(options: argparse.Namespace) -> int:
    from shards.append import append_told

    console = Console(stderr=True, highlight=False)
    taken = _format_of(options)
    with ProgressLine(console) as line:
        told = append_told(
            options.source,
            place(options.out),
            format=taken,
            on_duplicate=options.on_duplicate,
            workers=options.workers,
            engine=options.engine,
            ray_address=options.ray_address,
            progress=line.show,
        )
    last, more = line.last or Progress(), ""
    if told.prepared_before:
        more = "more "
        print(f"{options.out}: {told.prepared_before:,} products added that an interrupted append had prepared")
    if told.products:
        there = f"{told.already_there} of the source's were there already"
    else:
        there = "nothing new could be used" if last.rejected else "all of the source's were there already"
    in_all = told.dataset["counts"]["products"]
    print(f"{options.out}: {told.products:,} {more}products added; {there}; {in_all:,} in all")
    for reason, count in last.rejected.items():
        print(printable(f"  rejected {count:>6,}  {reason:<18} {last.examples.get(reason, '')}".rstrip()))
    return 0


def _format_of(options: argparse.Namespace) -> str:
    taken = options.format or choose_format(options.source)
    print(f"{options.source}: format {taken}{'' if options.format else ' (chosen from the source)'}", flush=True)
    return taken


def _merge(options: argparse.Namespace) -> int:
    from shards.merge import merge

    sources = [place(source) for source in options.sources]
    copied: list[int] = []
    with bytes_line(Console(stderr=True), "merge") as shown:

        def show(done: int, total: int) -> None:
            copied[:] = [done]
            shown(done, total)

        dataset = merge(
            place(options.out),
            sources,
            on_duplicate=options.on_duplicate,
            overwrite=options.overwrite,
            progress=show,
        )
    if not copied:
        print(f"{options.out}: already merged, nothing to do; {dataset['counts']['products']:,} products")
        return 0
    print(*summary_lines(place(options.out), summarize(place(options.out))), sep="\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from shards.verify import verify

    with bytes_line(Console(stderr=True), "verify") as shown:
        report = verify(place(options.out), full=options.full, workers=options.workers, progress=shown)
    if not report.findings:
        print(f"{options.out}: no findings; {report.checked}")
        return 0
    for finding in report.findings[:SHOWN_FINDINGS]:
        print(finding)
    more = len(report.findings) - SHOWN_FINDINGS
    if more > 0:
        print(f"... and {more} more")
    hint = "" if options.full else "; --full names the products that are touched"
    raise BadData(
        f"{len(report.findings)} finding{'s' * (len(report.findings) != 1)} in '{options.out}'",
        allowed="every file as dataset.json describes it",
        change=f"skill-shards repair where tables or indices are concerned; else copy or build the shards again{hint}",
    )


def _repair(options: argparse.Namespace) -> int:
    from shards.repair import repair

    with bytes_line(Console(stderr=True), "repair") as shown:
        done = repair(place(options.out), progress=shown)
    print(*(done or [f"{options.out}: nothing to repair"]), sep="\n")
    return 0


def _info(options: argparse.Namespace) -> int:
    summary = summarize(place(options.out))
    if options.json:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        print(*summary_lines(place(options.out), summary), sep="\n")
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from shards.sheet import write_sheet

    if options.products < 1:
        raise BadUsage(f"--products is {options.products}", allowed="1 or more")
    shown, total = write_sheet(
        place(options.out),
        Path(options.file),
        products=options.products,
        seed=options.seed,
        source=options.source,
        format=options.format,
    )
    print(f"{options.file}: {shown} of {total} products")
    return 0


COMMANDS = {
    "build": _build,
    "append": _append,
    "merge": _merge,
    "verify": _verify,
    "repair": _repair,
    "info": _info,
    "sheet": _sheet,
}


if __name__ == "__main__":
    sys.exit(main())
