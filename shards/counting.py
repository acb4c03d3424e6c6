"""What a build has done: counts that add up, and an example of each reason for leaving something out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS, Reject


@dataclass
class Progress:
    """What a build has done so far; handed to ``progress`` after each product."""

    images_total: int = 0
    images_seen: int = 0
    images_written: int = 0
    products: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> its first case."""
    duplicates: Counter[str] = field(default_factory=Counter)
    """Kind -> photographs that were kept although an earlier one is like them."""
    by_type: Counter[str] = field(default_factory=Counter)
    """Product type -> products; counted where there is a cap."""
    bytes_read: int = 0
    """Size of the files that the written photographs were made from."""
    bytes_written: int = 0
    """Into shards."""
    resumed: int = 0
    resumed_read: int = 0
    resumed_written: int = 0
    """Photographs of ``images_seen`` that were taken over from an interrupted build."""
    notes: dict[str, int] = field(default_factory=dict)
    """What the catalogue decided by itself, by name; complete at the end."""

    @property
    def images_rejected(self) -> int:
        return sum(self.rejected[reason] for reason in IMAGE_REASONS)

    def reject(self, reject: Reject) -> None:
        """Count one; a photograph counts as seen, a product does not."""
        self.images_seen += reject.reason in IMAGE_REASONS
        self.rejected[reject.reason] += 1
        if reject.reason not in self.examples:
            self.examples[reject.reason] = f"{reject.image_path or reject.product_id}: {reject.detail}"

    def counts(self) -> dict[str, Any]:
        """As dataset.json has them."""
        counts: dict[str, Any] = {
            "products": self.products,
            "images_seen": self.images_seen,
            "images_written": self.images_written,
            "images_rejected": {reason: self.rejected[reason] for reason in IMAGE_REASONS if self.rejected[reason]},
            "products_rejected": {reason: self.rejected[reason] for reason in PRODUCT_REASONS if self.rejected[reason]},
        }
        return with_notes(counts, [{"notes": self.notes}])

    def saved(self) -> dict[str, Any]:
        """All that ``resume`` needs, as JSON can hold it."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "rejected": dict(self.rejected),
            "examples": dict(self.examples),
            "duplicates": dict(self.duplicates),
            "by_type": dict(self.by_type),
        }

    def resume(self, saved: dict[str, Any]) -> None:
        """Go on from where ``saved`` was called."""
        for name in _NUMBERS:
            setattr(self, name, saved[name])
        self.rejected, self.duplicates = Counter(saved["rejected"]), Counter(saved["duplicates"])
        self.examples, self.by_type = dict(saved["examples"]), Counter(saved["by_type"])
        self.resumed = self.images_seen
        self.resumed_read, self.resumed_written = self.bytes_read, self.bytes_written


def with_notes(counts: dict[str, Any], parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``counts`` with the sums of the ``notes`` of ``parts``; without them where nothing was noted."""
    notes = Counter[str]()
    for part in parts:
        notes.update(part.get("notes", {}))
    noted = {name: count for name, count in sorted(notes.items()) if count}
    return {**counts, "notes": noted} if noted else counts


_NUMBERS = ("images_seen", "images_written", "products", "bytes_read", "bytes_written")
