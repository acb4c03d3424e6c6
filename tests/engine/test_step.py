"""The step never waits for the device, and a number that is not finite moves nothing (C7)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.engine.launch import launch
from tests.engine.step_worker import OPTIONS, OTHERS, STAGE_OF_OTHERS, STAGES

WITH_TEACHER = [*STAGES, "dino", "byol", "mocov2", "pbcnet", *OPTIONS]


@pytest.fixture(
    scope="module",
    params=[(1, False), (2, False), pytest.param((1, True), marks=pytest.mark.gpu)],
    ids=["world1", "world2", "gpu"],
)
def told(request: pytest.FixtureRequest, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """[rank][case]: what real steps did, all cases in one launch."""
    folder, (world, gpu) = tmp_path_factory.mktemp("step"), request.param
    for rank, done in enumerate(launch("step_worker.py", world, str(drawn), str(folder), gpu=gpu)):
        assert done.returncode == 0, f"rank {rank}:\n{done.stdout}"
    return [json.loads(Path(folder, f"step-{world}-{rank}.json").read_text()) for rank in range(world)]


def of(told: list[dict[str, Any]], case: str) -> list[dict[str, Any]]:
    """[rank]: what the stage did, or the method or lever at the stage that this number of ranks runs it with."""
    return [rank[case if case in STAGES else f"{case}-{STAGE_OF_OTHERS[len(told)]}"] for rank in told]


@pytest.mark.parametrize("case", [*STAGES, *OTHERS])
def test_a_step_waits_for_nothing(told: list[dict[str, Any]], case: str) -> None:
    """From the first micro-batch's forward to the commit of center or queue, DeepSpeed's step included."""
    assert [rank["waits"] for rank in of(told, case)] == [""] * len(told)


@pytest.mark.parametrize("case", WITH_TEACHER)
def test_the_gathering_goes_on_beside_the_students_forward(told: list[dict[str, Any]], case: str) -> None:
    """Still pending when the student's first forward has ended, waited for when the teacher's begins."""
    for rank in of(told, case):
        first, *others = rank["used"]
        pending = dict(reversed(others))
        assert first[0] == "student" and pending["teacher"] == 0
        assert (first[1] > 0) == (len(told) > 1)


@pytest.mark.parametrize("case", STAGES)
def test_a_planted_wait_is_caught(told: list[dict[str, Any]], case: str) -> None:
    """In the loss, in its backward pass, and behind the optimizer's step: so the guard sees all of it."""
    if len(told) == 1:
        assert all(told[0][case]["planted"].values()), told[0][case]["planted"]


@pytest.mark.parametrize("what", ["input", "loss", "infinite loss", "gradient"])
@pytest.mark.parametrize("case", STAGES)
def test_a_number_that_is_not_finite_on_one_rank_moves_nothing_on_any(
    told: list[dict[str, Any]], case: str, what: str
) -> None:
    """The hash of weights, masters, moments, teacher and center is what it was; the next step moves them."""
    assert [rank[case]["spoiled"][what] for rank in told] == [[True, True, True]] * len(told)


@pytest.mark.parametrize("case", STAGES)
def test_the_steps_and_their_products_are_listed(told: list[dict[str, Any]], case: str) -> None:
    """By every rank, its own products; ids as in the catalogue."""
    shown = [line["products"] for rank in told for line in rank[case]["listed"]]
    for rank in told:
        steps = rank[case]["steps"]
        assert len(steps) == 4 and {later - step for step, later in pairwise(steps)} == {2}
        assert [line["step"] for line in rank[case]["listed"]] == steps
    assert all(product.startswith("design-") for products in shown for product in products)
    assert all(1 <= len(products) <= 8 // len(told) for products in shown)
