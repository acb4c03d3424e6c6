"""Tables in the layout of SkiLL's tables 2 to 4 and bars like its figure 7, from finished evaluations.

``skill-eval tables RUN... --out DIR`` writes probes.md, .tex and .csv (a row a run; per attribute linear and non-linear
Acc, R@90, R@95 in percent) and color_entropy.md, .tex, .csv and .png. The figures that the paper printed follow in
tables of their own, and in papers.csv, each marked as theirs and from other data; ``--no-papers`` leaves them out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from skill_fast.errors import BadData, BadUsage
from skill_fast.evaluate import papers
from skill_fast.evaluate.finished import Finished, read_finished, why_not_comparable

KINDS = (("linear", "Linear"), ("nonlinear", "Non-linear"))
SCORES = (("accuracy", "Acc"), ("recall@90", "R@90"), ("recall@95", "R@95"))
ENTROPY = "color/clusters/mean"


def probed_attributes(runs: Sequence[Finished]) -> list[str]:
    """Attributes that any of the runs was probed for, in the order of their first appearance."""
    names = [name for run in runs for name in run.scores if name.startswith("probe/") and name.endswith("/majority")]
    return list(dict.fromkeys(name.split("/")[1] for name in names))


def probe_table(runs: Sequence[Finished]) -> list[list[str]]:
    """Heading row, then a row per run; percent with two decimals, "-" where a run lacks the score."""
    columns = [(a, kind, score) for a in probed_attributes(runs) for kind in KINDS for score in SCORES]
    table = [["run", *(f"{a} {kind[1]} {score[1]}" for a, kind, score in columns)]]
    for run in runs:
        values = [run.scores.get(f"probe/{a}/{kind[0]}/{score[0]}") for a, kind, score in columns]
        table.append([run.name, *("-" if value is None else f"{100 * value:.2f}" for value in values)])
    return table


def entropy_table(runs: Sequence[Finished]) -> list[list[str]]:
    """Colour entropy in nats, its floor and ceiling, and the purities without which it says nothing."""
    names = dict.fromkeys(
        name
        for run in runs
        for name in run.scores
        if name.startswith("color/design/") and name.endswith(("/purity", "/purity_by_chance"))
    )
    columns = [ENTROPY, "color/floor/mean", "color/ceiling/mean", *names]
    rows = [run for run in runs if ENTROPY in run.scores]
    return [["run", *columns]] + [
        [run.name, *(f"{run.scores[name]:.4f}" if name in run.scores else "-" for name in columns)] for run in rows
    ]


def markdown(table: list[list[str]]) -> str:
    """A pipe table; a pipe in a cell is escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]]) + "\n"


def latex(table: list[list[str]]) -> str:
    """A tabular with booktabs' rules; TeX's special characters are escaped."""
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    lines = [" & ".join("".join(special.get(c, c) for c in cell) for cell in row) + r" \\" for row in table]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}\n{body}\n\\end{{tabular}}\n"


def printed_entropies() -> list[list[str]]:
    """The colour entropies that the paper's text names; its figure 7 prints none on its bars."""
    rows = [[f"{name} ({papers.THEIRS}, section 6)", f"{value:.2f}"] for name, value in papers.ENTROPIES]
    return [["run", ENTROPY], *rows]


def write_tables(runs: Sequence[Finished], out: Path, *, with_papers: bool = True) -> list[Path]:
    """Write every table that the runs have scores for; raises BadData where they have none."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if probed_attributes(runs):
        printed = [table.lines() for table in papers.PRINTED] if with_papers else []
        written += _write_texts(out / "probes", [probe_table(runs), *printed])
        written.append(_write_csv(out / "probes.csv", probe_table(runs)))
    if any(ENTROPY in run.scores for run in runs):
        printed = [printed_entropies()] if with_papers else []
        written += _write_texts(out / "color_entropy", [entropy_table(runs), *printed])
        written.append(_write_csv(out / "color_entropy.csv", entropy_table(runs)))
        written.append(_draw(runs, out / "color_entropy.png", with_papers=with_papers))
    if not written:
        raise BadData("no run has probes or a colour entropy", change="skill-eval RUN --tasks probe,color --json FILE")
    if with_papers:
        figures = [[str(number), *cells, papers.THEIRS] for number, *cells in papers.flat()]
        figures += [["section 6", "", name, ENTROPY, f"{value:.2f}", papers.THEIRS] for name, value in papers.ENTROPIES]
        heading = ["table", "data", "method", "score", "printed", "whose"]
        written.append(_write_csv(out / "papers.csv", [heading, *figures]))
    return written


def _write_texts(stem: Path, parts: Sequence[list[list[str]]]) -> list[Path]:
    """The tables below each other as Markdown and as LaTeX, ours first."""
    paths = []
    for suffix, write in ((".md", markdown), (".tex", latex)):
        path = stem.with_suffix(suffix)
        path.write_text("\n".join(write(part) for part in parts), encoding="utf-8")
        paths.append(path)
    return paths


def _write_csv(path: Path, table: list[list[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return path


def _draw(runs: Sequence[Finished], path: Path, *, with_papers: bool) -> Path:
    """A bar per run, its own floor and ceiling as marks, the purity of the same clusters written in it.

    The paper's two figures are dotted lines, not bars: they are no measurement of these data.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadUsage("matplotlib is not installed", change="pip install 'skill_fast[plots]'") from None
    shown = [run for run in runs if ENTROPY in run.scores]
    figure = Figure(figsize=(3.5 + 1.2 * len(shown), 4), layout="constrained")
    axes = figure.subplots()
    places = range(len(shown))
    bars = axes.bar(places, [run.scores[ENTROPY] for run in shown], color="tab:blue")
    for part, mark in (("floor", "v"), ("ceiling", "^")):
        values = [run.scores[f"color/{part}/mean"] for run in shown]
        axes.plot(places, values, mark, color="black", linestyle="", label=part)
    axes.bar_label(bars, [_purities(run) for run in shown], label_type="center", color="white", fontsize=7)
    for (name, value), tone in zip(papers.ENTROPIES if with_papers else (), ("0.35", "0.6")):
        axes.axhline(value, color=tone, linestyle=":", label=f"{name}\n({papers.THEIRS})")
    axes.set_xticks(places, [run.name for run in shown])
    axes.set_ylabel("colour entropy, nats")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _purities(run: Finished) -> str:
    found = {
        n.split("/")[2]: v for n, v in run.scores.items() if n.startswith("color/design/") and n.endswith("purity")
    }
    return "\n".join(f"{label}\npurity {value:.2f}" for label, value in found.items())


def main_tables(arguments: Sequence[str]) -> None:
    """``skill-eval tables RUN... --out DIR``."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="skill-eval tables", description="Tables of runs.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder, or a file of skill-eval --json")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--no-papers", action="store_true", help="leave out the figures that SkiLL's paper printed")
    options = parser.parse_args(arguments)
    runs = [read_finished(place) for place in options.runs]
    for path in write_tables(runs, options.out, with_papers=not options.no_papers):
        print(path)
    for run in runs[1:]:
        if why := why_not_comparable(runs[0], run):
            print(f"note: {run.name} was scored on {why} than {runs[0].name}")
