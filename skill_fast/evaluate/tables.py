"""Tables in the layout of SkiLL's tables 2 to 4 and bars like its figure 7, from finished evaluations.

``skill-eval tables RUN... --out DIR`` writes probes.md, .tex and .csv (a row a run; per attribute linear and non-linear
Acc, R@90, R@95 in percent) and color_entropy.md, .tex, .csv and .png. The figures that the paper printed follow in
tables of their own, and in papers.csv, each marked as theirs and from other data; ``--no-papers`` leaves them out.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skill_fast.errors import BadData, BadUsage
from skill_fast.evaluate import papers
from skill_fast.evaluate.finished import Finished, notes_on, printable, read_all
from skill_fast.evaluate.scoreboard import probed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (("linear", "Linear"), ("nonlinear", "Non-linear"))
SCORES = (("accuracy", "Acc"), ("recall@90", "R@90"), ("recall@95", "R@95"))
ENTROPY = "color/clusters/mean"
BESIDE = ("color/clusters/size_weighted", "color/clusters/normalised", "color/nearest", "color/nearest_floor")
SCORED_ON = ("dataset", "split", "protocol")
TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row the line before would take them for its own argument.
    "[": "{[}",
    "*": "{*}",
}


def probed_attributes(runs: Sequence[Finished]) -> list[str]:
    """Attributes that any of the runs was probed for, in the order of their first appearance."""
    return list(dict.fromkeys(name for run in runs for name in probed(run.scores)))


def probe_table(runs: Sequence[Finished]) -> list[list[str]]:
    """Heading row, then a row per run; percent with two decimals, "-" where a run lacks the score."""
    columns = [(a, kind, score) for a in probed_attributes(runs) for kind in KINDS for score in SCORES]
    table = [["run", *(f"{printable(a)} {kind[1]} {score[1]}" for a, kind, score in columns)]]
    for run in runs:
        values = [run.scores.get(f"probe/{a}/{kind[0]}/{score[0]}") for a, kind, score in columns]
        table.append([run.name, *("-" if value is None else f"{100 * value:.2f}" for value in values)])
    return table


def entropy_table(runs: Sequence[Finished]) -> list[list[str]]:
    """Colour entropy in nats, its floor and ceiling, its variants, and the purities without which it says nothing."""
    names = dict.fromkeys(
        name
        for run in runs
        for name in run.scores
        if name.startswith("color/design/") and name.endswith(("/purity", "/purity_by_chance", "/nmi"))
    )
    columns = [ENTROPY, "color/floor/mean", "color/ceiling/mean", *names, *BESIDE]
    rows = [run for run in runs if ENTROPY in run.scores]
    return [["run", *columns]] + [
        [run.name, *(f"{run.scores[name]:.4f}" if name in run.scores else "-" for name in columns)] for run in rows
    ]


def markdown(table: list[list[str]]) -> str:
    """A pipe table; what Markdown would take for a mark is escaped."""
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]]) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is; an underscore within a word is no mark."""
    return re.sub(r"([\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def latex_text(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(TEX.get(c, c) for c in text)


def latex(table: list[list[str]]) -> str:
    """A tabular with booktabs' rules; TeX's special characters are escaped."""
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in table]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}\n{body}\n\\end{{tabular}}\n"


def printed_entropies() -> list[list[str]]:
    """The colour entropies that the paper's text names; its figure 7 prints none on its bars."""
    rows = [[f"{name} ({papers.THEIRS}, section 6)", f"{value:.2f}"] for name, value in papers.ENTROPIES]
    return [["run", ENTROPY], *rows]


def write_tables(runs: Sequence[Finished], out: Path, *, with_papers: bool = True) -> list[Path]:
    """Write every table that the runs have scores for, all or none; raises BadData where they have none."""
    contents: dict[str, bytes] = {}
    if probed_attributes(runs):
        printed = [table.lines() for table in papers.PRINTED] if with_papers else []
        contents |= _texts("probes", probe_table(runs), printed, runs)
    shown = [run for run in runs if ENTROPY in run.scores]
    if shown:
        contents |= _texts("color_entropy", entropy_table(shown), [printed_entropies()] if with_papers else [], shown)
        picture = io.BytesIO()
        figure(shown, with_papers=with_papers).savefig(picture, dpi=150, format="png")
        contents["color_entropy.png"] = picture.getvalue()
    if not contents:
        raise BadData("no run has probes or a colour entropy", change="skill-eval RUN --tasks probe,color --json FILE")
    if with_papers:
        figures = [[str(number), *cells, papers.THEIRS] for number, *cells in papers.flat()]
        figures += [["section 6", "", name, ENTROPY, f"{value:.2f}", papers.THEIRS] for name, value in papers.ENTROPIES]
        heading = ["table", "data", "method", "score", "printed", "whose"]
        contents["papers.csv"] = _csv([heading, *figures])
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (out / f"{name}.tmp").write_bytes(content)
        os.replace(out / f"{name}.tmp", out / name)
    return [out / name for name in contents]


def _texts(
    stem: str, ours: list[list[str]], printed: Sequence[list[list[str]]], runs: Sequence[Finished]
) -> dict[str, bytes]:
    """The tables below each other as Markdown and as LaTeX, ours first with what sets its runs apart; ours as CSV."""
    notes = notes_on(runs)
    md = markdown(ours) + "".join(f"\nNote: {markdown_text(note)}.\n" for note in notes)
    tex = latex(ours) + "".join(f"\\par\\noindent Note: {latex_text(note)}.\n" for note in notes)
    on = [[printable(str(run.result.get(key, ""))) for key in SCORED_ON] for run in runs]
    rows = [[*row, *more] for row, more in zip(ours, [list(SCORED_ON), *on], strict=True)]
    return {
        f"{stem}.md": "\n".join([md, *map(markdown, printed)]).encode(),
        f"{stem}.tex": "\n".join([tex, *map(latex, printed)]).encode(),
        f"{stem}.csv": _csv(rows),
    }


def _csv(table: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(table)
    return text.getvalue().encode()


def figure(runs: Sequence[Finished], *, with_papers: bool) -> Figure:
    """A bar per run, its own floor and ceiling as marks, the purity of the same clusters written in it.

    The paper's two figures are dotted lines, not bars: they are no measurement of these data. Names are never read as
    mathematics, and the legend stands beside the bars.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadUsage("matplotlib is not installed", change="pip install 'skill_fast[plots]'") from None
    drawn = Figure(figsize=(5.5 + 1.2 * len(runs), 4), layout="constrained")
    axes = drawn.subplots()
    places = range(len(runs))
    bars = axes.bar(places, [run.scores[ENTROPY] for run in runs], color="tab:blue")
    for part, mark in (("floor", "v"), ("ceiling", "^")):
        values = [run.scores.get(f"color/{part}/mean", float("nan")) for run in runs]
        axes.plot(places, values, mark, color="black", linestyle="", label=part)
    purities = [_purities(run) for run in runs]
    axes.bar_label(bars, purities, label_type="center", color="white", fontsize=7, parse_math=False)
    for (name, value), tone in zip(papers.ENTROPIES if with_papers else (), ("0.35", "0.6")):
        axes.axhline(value, color=tone, linestyle=":", label=f"{name}\n({papers.THEIRS})")
    names = ["\n".join(textwrap.wrap(run.name, 16)) for run in runs]
    axes.set_xticks(places, names, parse_math=False, fontsize=8)
    axes.set_ylabel("colour entropy, nats")
    if notes := notes_on(runs):
        wrapped = "\n".join(textwrap.fill(note, 20 * (len(runs) + 2)) for note in notes)
        axes.set_title(wrapped, fontsize=7, loc="left", parse_math=False)
    drawn.legend(fontsize=7, loc="outside right upper")
    return drawn


def _purities(run: Finished) -> str:
    found = {
        n.split("/")[2]: v for n, v in run.scores.items() if n.startswith("color/design/") and n.endswith("purity")
    }
    return "\n".join(f"{label}\npurity {value:.2f}" for label, value in found.items()) or "purity\nnot recorded"


def main_tables(arguments: Sequence[str]) -> None:
    """``skill-eval tables RUN... --out DIR``."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="skill-eval tables", description="Tables of runs.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder, or a file of skill-eval --json")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--no-papers", action="store_true", help="leave out the figures that SkiLL's paper printed")
    options = parser.parse_args(arguments)
    runs = read_all(options.runs)
    for path in write_tables(runs, options.out, with_papers=not options.no_papers):
        print(path)
    for note in notes_on(runs):
        print(f"note: {note}")
