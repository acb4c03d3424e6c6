"""The figures that SkiLL's paper printed, as printed: theirs, measured on private catalogues, never reproduced here.

They stand beside this project's tables for their layout. Nothing computed on other data is comparable with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

THEIRS = "SkiLL's paper, private data"
KINDS = ("Linear", "Non-linear")
SCORES = ("Acc", "R@90", "R@95")


@dataclass(frozen=True)
class PaperTable:
    """One printed table of accuracies in percent. rows: (data, method, printed figures in the order of ``heading``)."""

    number: int
    attributes: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]

    def heading(self) -> list[str]:
        return [f"{a} {kind} {score}" for a in self.attributes for kind in KINDS for score in SCORES]

    def lines(self) -> list[list[str]]:
        """Heading row, then a row a method that says whose figures it holds."""
        body = [[f"{method}, {data} ({THEIRS}, Table {self.number})", *row.split()] for data, method, row in self.rows]
        return [["run", *self.heading()], *body]


TABLE_2 = PaperTable(
    2,
    ("Pattern", "Sleeve"),
    (
        ("Shirt", "BYOL", "56.31 04.10 02.24 59.91 6.494 01.70 81.30 71.14 60.15 83.37 73.51 65.46"),
        ("Shirt", "SimCLR", "78.02 54.88 10.20 78.51 60.15 18.40 81.00 66.47 40.44 83.29 71.89 59.06"),
        ("Shirt", "DINO", "80.29 61.21 25.87 83.19 71.62 50.71 91.39 78.81 77.81 93.93 88.59 81.32"),
        ("Shirt", "SkiLL", "81.01 59.90 31.07 85.66 76.76 63.52 92.81 79.36 78.75 95.14 91.99 86.93"),
        ("Women Dress", "BYOL", "66.77 14.96 01.24 66.95 15.55 02.43 34.46 00.03 00.03 44.99 00.87 00.34"),
        ("Women Dress", "SimCLR", "81.29 64.08 44.01 82.47 67.10 50.93 50.23 01.71 00.16 53.92 08.20 02.65"),
        ("Women Dress", "DINO", "83.11 67.55 48.28 90.87 87.92 79.96 62.26 17.65 04.08 78.19 58.34 37.09"),
        ("Women Dress", "SkiLL", "83.99 68.04 52.30 92.32 91.34 84.46 70.97 38.32 18.67 85.57 75.71 61.21"),
    ),
)
TABLE_3 = PaperTable(
    3,
    ("Other Hard-Line subcategories",),
    (
        ("Other Hard-Line", "BYOL", "56.45 27.46 20.39 62.14 33.44 27.37"),
        ("Other Hard-Line", "SimCLR", "72.30 49.88 38.53 75.19 54.61 43.08"),
        ("Other Hard-Line", "DINO", "83.10 70.52 58.25 85.04 75.34 64.23"),
        ("Other Hard-Line", "SkiLL", "83.77 71.79 61.35 86.02 77.45 65.32"),
    ),
)
TABLE_4 = PaperTable(
    4,
    ("Pattern",),
    (
        ("Women Dress", "SkiLL\\H", "83.67 68.73 50.85 90.92 87.81 78.59"),
        ("Women Dress", "SkiLL\\L", "83.74 68.15 52.27 91.91 89.25 79.02"),
        ("Women Dress", "SkiLL", "83.99 68.04 52.30 92.32 91.34 84.46"),
    ),
)
PRINTED = (TABLE_2, TABLE_3, TABLE_4)
ENTROPIES = (("SkiLL", 1.01), ("SkiLL, gray, jitter and blur at 0.1", 0.90))
"""Colour entropies of section 6. The bars of figure 7 carry no printed figures."""


def flat() -> Iterator[tuple[int, str, str, str, str]]:
    """(table, data, method, column, printed figure) of every printed figure."""
    for table in PRINTED:
        for data, method, row in table.rows:
            for column, figure in zip(table.heading(), row.split(), strict=True):
                yield table.number, data, method, column, figure
