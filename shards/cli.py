"""skill-shards: build, verify, look at shards of product photographs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from shards.build import Progress, build, default_workers
from shards.errors import BadData, BadUsage, exit_with
from shards.normalize import PREPROCESS
from shards.progress import ProgressLine
from shards.sources.catalogue import SOURCES, choose_format
from shards.summary import build_lines, summarize, summary_lines

DEMO_OPTIONS = ("designs", "photo_side", "seed")
SHOWN_FINDINGS = 40
EPILOG = """examples:
  skill-shards build photographs/ shards/                a folder a product, or root/type/product/*.jpg
  skill-shards build catalogue.csv shards/ --workers 16  a manifest: product_id, image_path and any labels
  skill-shards build demo shards/ --designs 248          a drawn catalogue with known labels
  skill-shards verify shards/ --full
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad usage, 3 bad data, 6 storage."""
    options = _parser().parse_args(argv)
    return exit_with(lambda: COMMANDS[options.command](options))


def _build(options: argparse.Namespace) -> int:
    console = Console(stderr=True, highlight=False)
    taken = options.format or choose_format(options.source)
    demo = {name: getattr(options, name) for name in DEMO_OPTIONS if getattr(options, name) is not None}
    print(f"{options.source}: format {taken}{'' if options.format else ' (chosen from the source)'}", flush=True)
    with ProgressLine(console) as line:
        dataset = build(
            options.source,
            options.out,
            format=taken,
            preprocess=options.preprocess,
            max_side=options.max_side,
            jpeg_quality=options.jpeg_quality,
            shard_mib=options.shard_mib,
            workers=options.workers,
            overwrite=options.overwrite,
            progress=line.show,
            **demo,
        )
    print(*build_lines(Path(options.out), dataset, line.last or Progress(), line.seconds), sep="\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from shards.verify import verify

    folder = Path(options.out)
    report = verify(folder, full=options.full)
    if not report.findings:
        print(f"{folder}: no findings; {report.checked}")
        return 0
    for finding in report.findings[:SHOWN_FINDINGS]:
        print(finding)
    more = len(report.findings) - SHOWN_FINDINGS
    if more > 0:
        print(f"... and {more} more")
    hint = "" if options.full else "; --full names the products that are touched"
    raise BadData(
        f"{len(report.findings)} finding{'s' * (len(report.findings) != 1)} in '{folder}'",
        allowed="every file as dataset.json describes it",
        change=f"build the shards again, or copy the named files again{hint}",
    )


def _info(options: argparse.Namespace) -> int:
    summary = summarize(Path(options.out))
    if options.json:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        print(*summary_lines(Path(options.out), summary), sep="\n")
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from shards.sheet import write_sheet

    if options.products < 1:
        raise BadUsage(f"--products is {options.products}", allowed="1 or more")
    shown, total = write_sheet(Path(options.out), Path(options.file), products=options.products, seed=options.seed)
    print(f"{options.file}: {shown} of {total} products")
    return 0


COMMANDS = {"build": _build, "verify": _verify, "info": _info, "sheet": _sheet}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="skill-shards",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _build_options(commands.add_parser("build", allow_abbrev=False, help="catalogue -> shards"))
    check = commands.add_parser(
        "verify", allow_abbrev=False, help="compare every file with dataset.json; exit code 3 on a finding"
    )
    check.add_argument("out", metavar="OUT", help="folder of shards")
    check.add_argument("--full", action="store_true", help="walk every tar: headers, crc32, decoding, tables")
    info = commands.add_parser("info", allow_abbrev=False, help="what a data set holds")
    info.add_argument("out", metavar="OUT", help="folder of shards")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    sheet = commands.add_parser("sheet", allow_abbrev=False, help="contact sheet: a row a product")
    sheet.add_argument("out", metavar="OUT", help="folder of shards")
    sheet.add_argument("file", metavar="FILE.png", help="picture to write")
    sheet.add_argument("--products", type=int, default=24, help="rows; drawn by --seed (default %(default)s)")
    sheet.add_argument("--seed", type=int, default=0)
    return parser


def _build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a folder, a manifest (.csv .jsonl .parquet), or: demo")
    parser.add_argument("out", metavar="OUT", help="folder to write; empty, new, or left by an unfinished build")
    parser.add_argument(
        "--format",
        choices=sorted(SOURCES),
        help="default: demo for the word demo; manifest for a file, or for a folder with a file manifest.csv, "
        ".jsonl or .parquet; else folder",
    )
    parser.add_argument(
        "--preprocess",
        choices=PREPROCESS,
        default="catalog",
        help="catalog: trim the white border, pad to a square; none: keep the frame (default %(default)s)",
    )
    parser.add_argument("--max-side", type=int, default=512, help="pixels of the long side (default %(default)s)")
    parser.add_argument("--jpeg-quality", type=int, default=90, help="default %(default)s")
    parser.add_argument("--shard-mib", type=float, default=256, help="size of a shard in MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, help=f"processes (default: one a CPU, here {default_workers()})")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that OUT holds")
    demo = parser.add_argument_group("only with the source demo")
    demo.add_argument("--designs", type=int, help="each in 3 or 4 colours (default 248)")
    demo.add_argument("--photo-side", type=int, metavar="PX", help="pixels (default 64)")
    demo.add_argument("--seed", type=int, help="default 0")


if __name__ == "__main__":
    sys.exit(main())
