"""What is left out of a data set, and why: a fixed list of reasons, so that counts can be compared between builds."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_REASONS = (
    "missing_file",
    "unreadable",
    "empty_file",
    "too_large_file",
    "not_an_image",
    "too_many_pixels",
    "too_many_scans",
    "truncated",
    "undecodable",
    "decoder_died",
    "decoder_timeout",
    "out_of_memory",
    "unknown_image",
    "bad_row",
    "outside_product",
    "not_a_photograph",
    "near_duplicate",
    "exact_duplicate",
)
"""A photograph, or a row that should have named one, that was seen and not written."""
OF_THE_SOURCE = ("bad_row", "outside_product", "not_a_photograph", "unknown_image")
"""Reasons among them that a row or file of the catalogue gets; its path may be that of a photograph which another row
names as well."""
OF_PIXELS = frozenset(IMAGE_REASONS) - frozenset(OF_THE_SOURCE)
PASSING = ("unreadable", "decoder_died", "decoder_timeout", "out_of_memory")
"""Reasons among them that may lie in the machine, as it was then: the same photograph may be taken another time."""
PRODUCT_REASONS = ("no_photographs", "no_good_photographs", "other_type", "over_cap", "duplicate_product")
"""A product that was seen and not written; it counts as no image."""
BY_CHOICE = ("near_duplicate", "exact_duplicate", "other_type", "over_cap")
"""Reasons among them that somebody asked for; nothing is wrong with what they name."""


class Rejected(Exception):
    """One photograph can not be used; the build goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Reject:
    """A line of rejected.parquet."""

    product_id: str
    image_path: str
    reason: str
    detail: str
