"""A run as one self-contained HTML page, and the command ``skill-report`` that writes it.

Curves, scores, neighbours, provenance and configuration; what a run does not have, the page says. It loads nothing from
anywhere: pictures are data URIs, curves are SVG.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from skill_fast.errors import BadData, BadUsage, exit_with
from skill_fast.evaluate.devices import choose_device
from skill_fast.report.sections import (
    config_section,
    curves_section,
    neighbors_section,
    outcome,
    provenance_section,
    scores_section,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1040px; margin: 2em auto; padding: 0 1em }
h1 { margin-bottom: 0 } h2 { margin-top: 2em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: pre-line }
th:first-child, td:first-child { text-align: left } tr.first td { font-weight: 600 }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 1em }
svg .title { font-size: 14px; font-weight: 600 } svg .tick { font-size: 11px; fill: #555 }
svg .end { text-anchor: end } svg .middle { text-anchor: middle } svg .grid { stroke: #e4e4e4 }
.absent { color: #8a4b00 } .note { color: #555 } img { display: block; margin: .4em 0; max-width: 100% }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.5em }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto }
"""
# No source but the page itself: it must look the same from a disk without a network in ten years.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(run: Path, data: str | None = None, device: str | None = None) -> str:
    """The page of a run folder; ``data`` None takes the folder that the run was trained on.

    Raises BadData where ``run`` is no run folder, BadUsage for an unknown device. Everything else that is missing or
    damaged is named on the page.
    """
    if not any((run / name).is_file() for name in ("config.yaml", "model.json", "metrics.jsonl")):
        raise BadData(
            f"'{run}' is not a run folder: it has no config.yaml, model.json or metrics.jsonl",
            allowed="a folder that train.py wrote",
            change="check the path",
        )
    name, chosen = escape(run.resolve().name), choose_device(device)
    sections = {
        "Curves": curves_section(run),
        "Scores": scores_section(run),
        "Nearest neighbours": neighbors_section(run, data, chosen),
        "Provenance": provenance_section(run),
        "Configuration": config_section(run),
    }
    body = "\n".join(f"<h2>{title}</h2>\n{content}" for title, content in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>{outcome(run)}\n{body}\n</body></html>\n"
    )


def write_page(out: Path, page: str) -> None:
    """Write under a temporary name, then put it in place."""
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-report RUN --out FILE.html``; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-report", description="Write a run as one HTML page."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (default: the one the run was trained on)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU where there is one)")
    options = parser.parse_args(arguments)
    if not options.out.parent.is_dir():
        raise BadUsage(f"the folder '{options.out.parent}' does not exist", change=f"mkdir -p {options.out.parent}")
    write_page(options.out, render(options.run, options.data, options.device))
    print(f"{options.out}: {options.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    sys.exit(main())
