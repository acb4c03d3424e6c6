"""The words of the command line: every option of skill-shards with its help."""

from __future__ import annotations

import argparse

from shards.engines import ENGINES
from shards.errors import BadUsage
from shards.normalize import PREPROCESS
from shards.selection import parse_words
from shards.sources.catalogue import SOURCES

EPILOG = """examples:
  skill-shards build photographs/ shards/                a folder a product, or root/type/product/*.jpg
  skill-shards build catalogue.csv shards/ --workers 16  a manifest: product_id, image_path and any labels
  skill-shards build abo/ shards/ --types CHAIR,SOFA --cap-per-type 20000 --split train=0.9,test=0.1
  skill-shards build s3://photos/list.parquet s3://shards/2026 --engine ray
  skill-shards append new.csv shards/                    products that shards/ does not hold yet
  skill-shards verify shards/ --full

An interrupted build or append goes on when the same command is given again. SOURCE and OUT may be s3:// or gs://
addresses (pip install 'skill_fast[s3]').
"""


def parser(description: str) -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="skill-shards",
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, allow_abbrev=False, help=help, description=help)

    _build(command("build", "catalogue -> shards"))
    _append(command("append", "add the products of a catalogue to a finished data set"))
    _merge(command("merge", "several data sets -> one"))
    _verify(command("verify", "compare files with dataset.json; exit code 3 on a finding"))
    _repair(command("repair", "rebuild tables and indices from the tars; finish an interrupted append"))
    info = command("info", "what a data set holds")
    _dataset(info)
    info.add_argument("--json", action="store_true", help="as one JSON object")
    _sheet(command("sheet", "contact sheet: a row a product"))
    return whole


def _dataset(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", metavar="OUT", help="folder of shards")


def _build(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SOURCE", help="a folder, a manifest, a known catalogue's folder, or: demo")
    command.add_argument(
        "out", metavar="OUT", help="folder to write; empty, new, or left by the same command, finished or not"
    )
    _format(command)
    _pixels(command)
    _choice(command)
    command.add_argument("--shard-mib", type=float, default=256, help="size of a shard in MiB (default %(default)s)")
    command.add_argument(
        "--on-duplicate",
        choices=("error", "first", "merge"),
        default="error",
        help="a product that folder, hm or myntra name twice: stop, keep the first, or unite the photographs "
        "(default %(default)s)",
    )
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a data set that OUT holds; it goes when a first photograph of SOURCE "
        "was found good, before the new one is done",
    )
    _workers(command)
    demo = command.add_argument_group("only with the source demo")
    demo.add_argument("--designs", type=int, help="each in 3 or 4 colours (default 248)")
    demo.add_argument("--photo-side", type=int, metavar="PX", help="pixels (default 64)")
    demo.add_argument("--seed", type=int, help="default 0")


def _format(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format",
        choices=sorted(SOURCES),
        help="default: as the source shows by its files; demo for the word demo, else manifest or folder",
    )


def _pixels(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("pixels")
    group.add_argument(
        "--preprocess",
        choices=PREPROCESS,
        default="catalog",
        help="catalog: trim the white border, pad to a square; none: keep the frame (default %(default)s)",
    )
    group.add_argument("--max-side", type=int, default=512, help="pixels of the long side (default %(default)s)")
    group.add_argument("--jpeg-quality", type=int, default=90, help="default %(default)s")
    group.add_argument(
        "--crop-to-item",
        type=_words,
        default=(),
        metavar="TYPE,...",
        help="product types whose photographs are cut to the item where it stands out from its ground; or: all",
    )


def _choice(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("which products and photographs")
    group.add_argument(
        "--types",
        type=_words,
        default=(),
        metavar="TYPE,...",
        help="only these product types; one with a comma in quotes: '\"Tops, long\",Skirts'",
    )
    group.add_argument(
        "--cap-per-type", type=int, metavar="N", help="the first N products of each type of which a photograph is good"
    )
    group.add_argument(
        "--split",
        metavar="NAME=SHARE,...",
        help="splits by a stable hash of variant group or product, e.g. train=0.8,val=0.1,test=0.1; in place of the "
        "source's own",
    )
    group.add_argument(
        "--drop-duplicates",
        type=_words,
        default=(),
        metavar="near,exact",
        help="leave out photographs that look like an earlier one of their product (near), or whose JPEG an earlier "
        "product has (exact); otherwise duplicates.parquet lists them",
    )


def _workers(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("where the work is done")
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode (default: one a CPU; 0: in this one, unprotected)",
    )
    group.add_argument("--engine", choices=ENGINES, default="local", help="this machine or a Ray cluster")
    group.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="default: $RAY_ADDRESS, else a cluster that runs here, else one of its own",
    )


def _append(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SOURCE", help="as for build")
    _dataset(command)
    _format(command)
    command.add_argument(
        "--on-duplicate",
        choices=("error", "first"),
        default="first",
        help="a product that OUT holds already: leave it as it is, or stop (default %(default)s)",
    )
    _workers(command)


def _merge(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", metavar="OUT", help="folder to write")
    command.add_argument("sources", metavar="DATASET", nargs="+", help="finished folders of shards")
    command.add_argument(
        "--on-duplicate",
        choices=("error", "first", "merge"),
        default="error",
        help="a product id in two of them: stop, keep the first, or unite their photographs (default %(default)s)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a data set that OUT holds")


def _verify(command: argparse.ArgumentParser) -> None:
    _dataset(command)
    command.add_argument(
        "--full", action="store_true", help="every byte: sha256, headers, crc32, decoding, tables; else sizes only"
    )
    command.add_argument("--workers", type=int, metavar="N", help="processes for --full (default: one a CPU)")


def _repair(command: argparse.ArgumentParser) -> None:
    _dataset(command)


def _sheet(command: argparse.ArgumentParser) -> None:
    _dataset(command)
    command.add_argument("file", metavar="FILE.png", help="picture to write")
    command.add_argument("--products", type=int, default=24, help="rows; drawn by --seed (default %(default)s)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--source", help="show each photograph as it came from here, beside what was written")
    _format(command)


def _words(text: str) -> tuple[str, ...]:
    try:
        return parse_words(text)
    except BadUsage as error:
        raise argparse.ArgumentTypeError(str(error)) from error
