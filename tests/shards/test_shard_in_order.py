"""Entries come back whole and in order, whatever the engine does, and never too many at a time."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.engines import Outcome, Task
from shards.in_order import WAITING_MOST, arrive, in_order
from shards.normalize import Jpeg
from shards.rejects import Reject
from shards.sources.product import Product


class LazyEngine:
    """Answers a chunk when someone waits for it, or at once; keeps count of what is under way."""

    def __init__(self, chunk: int, ahead: int, at_once: bool = False) -> None:
        self.chunk, self.ahead, self._at_once = chunk, ahead, at_once
        self.under_way = self.most = 0
        self.sizes: list[int] = []

    def submit(self, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        self.under_way += len(tasks)
        self.most = max(self.most, self.under_way)
        self.sizes.append(len(tasks))
        answers: list[Outcome] = [
            Jpeg(str(task.photograph).encode() + b"!" * task.crop_to_item, 1, 1) for task in tasks
        ]
        return _Answer(self, answers, self._at_once)

    def close(self) -> None:
        pass


class _Answer(Future[list[Outcome]]):
    def __init__(self, engine: LazyEngine, answers: list[Outcome], at_once: bool) -> None:
        super().__init__()
        self._engine, self._answers = engine, answers
        if at_once:
            self.set_result(answers)

    def result(self, timeout: float | None = None) -> list[Outcome]:
        self._engine.under_way -= len(self._answers)
        return self._answers


def catalogue(counts: Sequence[int | None]) -> list[Product | Reject]:
    """A product with so many photographs each, None is a reject."""
    return [
        Reject("", str(number), "bad_row", "")
        if count is None
        else Product(str(number), tuple(Path(f"{number}/{view}") for view in range(count)), "a" if number % 2 else "b")
        for number, count in enumerate(counts)
    ]


@given(
    counts=st.lists(st.none() | st.integers(0, 40), max_size=30),
    chunk=st.integers(1, 16),
    ahead=st.integers(0, 64),
    at_once=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_entry_comes_once_in_order_with_its_own_outcomes(
    counts: list[int | None], chunk: int, ahead: int, at_once: bool
) -> None:
    engine, entries = LazyEngine(chunk, ahead, at_once), catalogue(counts)
    arrived = list(in_order(entries, engine, lambda product_type: product_type == "a"))
    assert [one.entry for one in arrived] == entries
    for one in arrived:
        expected = (
            []
            if isinstance(one.entry, Reject)
            else [str(path).encode() + b"!" * (one.entry.product_type == "a") for path in one.entry.photographs]
        )
        assert [outcome.data for outcome in one.outcomes if isinstance(outcome, Jpeg)] == expected
    assert engine.most <= max(ahead, chunk) and all(size <= chunk for size in engine.sizes)
    # No more chunks than the photographs ask for: only the last one may be smaller.
    assert all(size == chunk for size in engine.sizes[:-1])


def test_a_run_without_photographs_does_not_pile_up_behind_one_that_waits() -> None:
    taken = 0

    def entries():
        nonlocal taken
        yield from catalogue([1])
        for number in range(3 * WAITING_MOST):
            taken = number
            yield Reject("", str(number), "bad_row", "")

    first = next(iter(in_order(entries(), LazyEngine(16, 64), lambda product_type: False)))
    assert isinstance(first.entry, Product) and taken <= WAITING_MOST + 1


def test_an_entry_is_known_by_its_fields_and_its_files(tmp_path: Path) -> None:
    """Every change gives another identity; looking again gives the same."""
    (tmp_path / "a.jpg").write_bytes(b"12")
    product = Product("p", (tmp_path / "a.jpg",), attributes={"x": 1})
    before = arrive(product).identity
    assert arrive(product).identity == before
    found = {before}
    for other in (
        Product("q", product.photographs, attributes={"x": 1}),
        Product("p", product.photographs, attributes={"x": 2}),
        Product("p", product.photographs * 2, attributes={"x": 1}),
        Product("p", (tmp_path / "b.jpg",), attributes={"x": 1}),
        Product("p", product.photographs, split="test", attributes={"x": 1}),
        Reject("p", "", "no_photographs", ""),
        Reject("p", "", "no_photographs", "why"),
    ):
        found.add(arrive(other).identity)
    assert len(found) == 8
    (tmp_path / "a.jpg").write_bytes(b"123")
    found.add(arrive(product).identity)
    (tmp_path / "a.jpg").unlink()
    found.add(arrive(product).identity)
    assert len(found) == 10


def test_what_nobody_wants_any_more_is_not_submitted() -> None:
    """Entries stay in order and keep their identity, so that it does not show how far ahead the work was."""
    entries, engine, full = catalogue([1] * 9), LazyEngine(1, 1, at_once=True), set[str]()
    arrived = []
    for came in in_order(entries, engine, lambda product_type: False, full.__contains__):
        arrived.append(came)
        full.add("b")
    assert [came.entry for came in arrived] == entries
    assert [came.identity for came in arrived] == [arrive(entry).identity for entry in entries]
    assert [came.skipped for came in arrived] == [number % 2 == 0 and number > 0 for number in range(9)]
    assert sum(engine.sizes) == sum(not came.skipped for came in arrived) == 5
