"""Records to tables and pictures: ``records/README.md``, the figures of README and docs, one self-contained page.

    python -m benchmarks.report [--html report.html]
    python -m benchmarks.report --check        # exit 1 where a written page is not what the records say

Nothing is measured here. What there is no record of, the pages say. A damaged line, as a stopped machine leaves one, is
left out and named on stderr; ``--check`` refuses it.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.archive import FOLDER, Record, read
from benchmarks.charts import CHARTS, Chart, drawn
from benchmarks.charts.scaling import job_of
from benchmarks.headlines import headlines
from benchmarks.study import study
from benchmarks.tables import by_kind, html, markdown, model_tables
from shards.errors import BadData, Failure, exit_with

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- figures: written by python -m benchmarks.report -->"
END = "<!-- end of figures -->"
NO_GPU = "**There is no record from a GPU: no figure below was measured on one, and none of the GPU's goals is shown.**"
NOTE = (
    "Figures are medians; a plus behind a commit marks a tree with uncommitted changes. Absolute figures belong to "
    "their machine, ratios to one run on it."
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc } figure { margin: 2em 0 } figcaption { color: #555 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .2em .7em; text-align: left; border-bottom: 1px solid #e4e4e4; vertical-align: top }
td:last-child { white-space: nowrap }
.absent { color: #8a4b00 } .note { color: #555 } img { max-width: 100% }
"""
# The page carries all it shows, and runs nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def figures(records: Sequence[Record], link: str) -> str:
    """README's part: a table of what ran on a GPU, or that nothing did; then what ran on a CPU."""
    gpu, cpu = ([r for r in records if r.on_gpu == wanted] for wanted in (True, False))
    parts = [f"On a GPU:\n\n{markdown(headlines(gpu, link))}" if gpu else f"{NO_GPU}\n"]
    if cpu:
        parts.append(f"On a CPU:\n\n{markdown(headlines(cpu, link))}")
    return "\n".join([*parts, f"{NOTE}\n"])


def between_markers(page: Path, text: str) -> str:
    """A page with what stands between its two markers replaced; BadData where it lacks them."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadData(
            f"{page} lacks the two lines between which its figures stand",
            allowed=f"{BEGIN} ... {END}",
            change="put them back where the figures belong",
        )
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def scaling_tables(records: Sequence[Record]) -> str:
    """docs/scaling.md's part: the model's tables for the newest GPU step, or the assumed one."""
    return "\n".join(f"{table.title}\n\n{markdown(table)}" for table in model_tables(job_of(records)))


def index_page(records: Sequence[Record]) -> str:
    """``records/README.md``: every newest row."""
    sections = [f"## {table.title}\n\n{markdown(table)}" for table in by_kind(records, "")]
    gpu = "" if any(r.on_gpu for r in records) else f"{NO_GPU}\n\n"
    lead = "The newest record of each row on each machine, written by `python -m benchmarks.report`"
    how = "from the files beside this page; [how they are made](../../docs/benchmarks.md)"
    return f"# Records\n\n{lead} {how}. {NOTE}\n\n{gpu}" + "\n".join(sections)


def web_page(records: Sequence[Record]) -> str:
    """The self-contained HTML page: every picture, or what would make it, and every table."""
    gpu = "" if any(r.on_gpu for r in records) else f'<p class="absent">{escape(NO_GPU.strip("*"))}</p>'
    pictures = "\n".join(_figure(chart, drawn(chart, records)) for chart in CHARTS)
    tables = "\n".join(f"<h2>{escape(table.title)}</h2>\n{html(table)}" for table in by_kind(records, ""))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>skill_fast: what was measured</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>\n'
        f'<body><h1>What was measured</h1>{gpu}<p class="note">{escape(NOTE)}</p>\n'
        f"{pictures}\n{tables}\n</body></html>\n"
    )


def _figure(chart: Chart, picture: bytes | None) -> str:
    title = escape(chart.title)
    if picture is None:
        content = f'<p class="absent">no record yet; made by {escape(chart.made_by)}</p>'
    else:
        data = base64.b64encode(picture).decode()
        content = (
            f'<img alt="{title}" src="data:image/svg+xml;base64,{data}"><figcaption>{escape(chart.says)}</figcaption>'
        )
    return f'<figure id="{chart.name}"><h2>{title}</h2>{content}</figure>'


class Stale(Failure):
    """A page in the repository is not what the records say."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, default=FOLDER, help="a folder of .jsonl files (default %(default)s)")
    parser.add_argument("--readme", type=Path, help="whose figures are written (default: of the repository's records)")
    parser.add_argument("--html", type=Path, help="also the page with pictures, to this file")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    return exit_with(lambda: run(parser.parse_args(arguments)))


def run(options: argparse.Namespace) -> None:
    damaged: list[str] | None = None if options.check else []
    records = read(options.records, damaged=damaged)
    for said in damaged or ():
        print(f"left out: {said}", file=sys.stderr)
    pages = {options.records / "README.md": index_page(records)}
    readme = options.readme or (ROOT / "README.md" if options.records == FOLDER else None)
    if readme is not None:
        link = f"{os.path.relpath(options.records.resolve(), readme.resolve().parent)}/"
        pages[readme] = between_markers(readme, figures(records, link))
        for name, part in (("scaling.md", scaling_tables), ("study.md", study)):
            page = readme.parent / "docs" / name
            if page.is_file():
                pages[page] = between_markers(page, part(records))
    for path, text in pages.items():
        if options.check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            raise Stale(f"{path} is not what the records say", change="run python -m benchmarks.report")
        if not options.check:
            path.write_text(text, encoding="utf-8")
            print(path)
    if options.html and not options.check:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(web_page(records), encoding="utf-8")
        print(options.html)


if __name__ == "__main__":
    sys.exit(main())
