"""Records as tables, in Markdown and HTML: every newest row by kind, and what the model of scaling says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.archive import SLOWDOWN, Record, newest
from benchmarks.charts.throughput import spread
from benchmarks.scaling_model import FABRICS, SHOWS, Job, efficiency, fastest_stage, first_that_shows, state_bytes

KINDS = {
    "train": "benchmarks.train --data SHARDS",
    "peers": "benchmarks.peers --data SHARDS",
    "loader": "benchmarks.loader --data SHARDS",
    "kernels": "benchmarks.kernels",
    "step": "benchmarks.step",
    "scaling": "benchmarks.scaling",
    "arrangements": "benchmarks.arrangements --data SHARDS",
    "feeding": "benchmarks.feeding --data SHARDS",
    "faults": "benchmarks.faults --data SHARDS",
    "shards": "benchmarks.shards --data photographs/",
    "evaluate": "benchmarks.evaluate",
    "full_report": "benchmarks.full_report RUN --data NAME=SHARDS",
    "demo": "benchmarks.demo RUN...",
    "methods": "benchmarks.methods",
}
"""What there may be records of, in the order of the report, and the command that makes them."""
SHOWN = (1, 2, 8, 16, 64, 512)
"""GPUs for which the model is tabulated."""
RATIOS = ("times", "ratio", SLOWDOWN)
Cell = tuple[str, str]
"""(text, link); the link "" where there is none."""


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    absent: str = ""
    """What to say where there are no rows."""


def by_kind(records: Sequence[Record], link: str) -> list[Table]:
    """A table a kind: the newest record of each row on each machine; an empty one says which command fills it."""
    latest = newest(records)
    kinds = [*KINDS, *sorted({r.kind for r in latest} - KINDS.keys())]
    header = ("what", "value", "repeats", "ratio", "machine", "commit", "measured")
    return [
        Table(
            kind,
            header,
            tuple(_row(r, link) for r in latest if r.kind == kind),
            f"no record yet; made by python -m {KINDS.get(kind, '')}",
        )
        for kind in kinds
    ]


def model_tables(job: Job) -> list[Table]:
    """What the model of scaling says of a job: where communication shows, which stage is fastest, memory by stage."""
    reach = ("fabric", "ZeRO", *(f"{n} GPUs" for n in SHOWN), f"communication takes {SHOWS:.0%} from")
    rows = [
        (
            fabric.name,
            "0" if stage == 0 else "1, 2",
            *(f"{efficiency(job, stage, n, fabric):.0%}" for n in SHOWN),
            f"{n} GPUs" if (n := first_that_shows(job, stage, fabric)) else "nowhere up to 512",
        )
        for fabric in FABRICS
        for stage in (0, 2)
    ]
    memory = [(f"ZeRO {s}", *(f"{state_bytes(job, s, n) / 1e9:.2f} GB" for n in SHOWN)) for s in (0, 1, 2)]
    fastest = [(fabric.name, *(str(fastest_stage(job, n, fabric)) for n in SHOWN)) for fabric in FABRICS]
    header = tuple(f"{n} GPUs" for n in SHOWN)
    return [
        texts(f"{job.name}, {job.batch} products a GPU: each GPU's rate beside one alone.", reach, rows),
        texts("Fastest stage.", ("fabric", *header), fastest),
        texts("Weights, gradients, optimizer and teacher, a GPU; activations come on top.", ("", *header), memory),
    ]


def texts(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], absent: str = "") -> Table:
    """A table of cells without links."""
    return Table(title, header, tuple(tuple(map(plain, row)) for row in rows), absent)


def markdown(table: Table) -> str:
    if not table.rows:
        return f"{table.absent}\n"
    lines = [table.header, ("---",) * len(table.header)]
    lines += [tuple(f"[{_md(text)}]({to})" if to else _md(text) for text, to in row) for row in table.rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def html(table: Table) -> str:
    if not table.rows:
        return f'<p class="absent">{escape(table.absent)}</p>'
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text, _ in row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def quantity(value: float, unit: str) -> str:
    """1.33 times, 83.28 products/s"""
    return f"{value:.2f} {unit}" if unit in RATIOS else f"{number(value)} {unit}"


def number(value: float) -> str:
    """Four digits, grouped where there are more: 0.8721, 83.28, 11,304."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _row(record: Record, link: str) -> tuple[Cell, ...]:
    if record.value is None:
        shown = f"can not: {record.fields['can_not']}"
    else:
        low, high = spread(record)
        shown = quantity(record.value, record.unit)
        shown += f" ({number(low)} to {number(high)})" if low is not None and high is not None else ""
    ratio = f"{record.fields['ratio']:.2f}" if record.fields.get("ratio") is not None else ""
    repeats = str(record.fields.get("repeats", ""))
    return plain(_name(record)), plain(shown), plain(repeats), plain(ratio), *measured(record, link)


def _name(record: Record) -> str:
    """The row's name with what tells it from others of its name."""
    about = [f"seed {record.fields['seed']}"] if "seed" in record.fields else []
    about += [str(record.fields["launch"])] if "launch" in record.fields else []
    about += [record.data] if record.data else []
    return f"{record.name} · {', '.join(about)}" if about else record.name


def measured(record: Record, link: str) -> tuple[Cell, Cell, Cell]:
    """Where and when: machine, commit, and the day with a link to the record's file."""
    return plain(record.machine), plain(record.commit), (record.date[:10], link + record.file)


def plain(text: str) -> Cell:
    """A cell without a link."""
    return text, ""


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
