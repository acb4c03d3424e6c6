"""The teacher's average against float64, and the half-precision average that does not move."""

from __future__ import annotations

import pytest
import torch

from skill_fast.kernels import ema_update
from tests.engine.synchronisations import NoSynchronisation

STEPS, MOMENTUM = 1000, 0.9995


def students(elements: int):
    """A student that drifts: 1,000 fp32 weight vectors, the same at each call."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(elements, generator=generator) * 0.02
    for _ in range(STEPS):
        weights = weights + torch.randn(elements, generator=generator) * 1e-4
        yield weights


def drift(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(average by loops in float64, average kept in ``dtype`` by the plain formula)."""
    exact = low = None
    for student in students(elements):
        if exact is None:
            exact, low = student.double().clone(), student.to(dtype).clone()
        exact = MOMENTUM * exact + (1 - MOMENTUM) * student.double()
        low = MOMENTUM * low + (1 - MOMENTUM) * student.to(dtype)
    return exact, low


@pytest.mark.parametrize("elements", [1, 63, 1025])
def test_a_thousand_updates_stay_within_a_millionth_of_float64(elements):
    exact, _ = drift(elements, torch.float64)
    teacher = None
    for student in students(elements):
        teacher = student.clone() if teacher is None else teacher
        ema_update(teacher, student, MOMENTUM)
    # Relative to the vector: single weights pass through zero, where a relative error means nothing.
    assert (teacher.double() - exact).norm() <= 1e-6 * exact.norm()


def test_a_bf16_average_fails_the_same_bound():
    exact, low = drift(1025, torch.bfloat16)
    first = next(students(1025)).to(torch.bfloat16)
    assert (low.double() - exact).norm() > 1e-3 * exact.norm()
    assert (low == first).float().mean() > 0.9  # most weights never moved: an update is under half a step of bf16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_copy_is_the_rounded_average(dtype):
    teacher, student = torch.randn(65), torch.randn(65)
    out = torch.full((65,), torch.nan, dtype=dtype)
    returned = ema_update(teacher, student, 0.9, out=out)
    assert returned is teacher
    assert torch.equal(out, teacher.to(dtype))


def test_momentum_may_be_a_tensor_and_the_ends_are_exact():
    teacher, student = torch.randn(9), torch.randn(9)
    kept = teacher.clone()
    assert torch.equal(ema_update(teacher, student, torch.tensor(1.0)), kept)
    torch.testing.assert_close(ema_update(teacher, student, 0.0), student, rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    ("teacher", "student", "error"),
    [
        (torch.zeros(3, dtype=torch.bfloat16), torch.zeros(3), TypeError),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float16), TypeError),
    ],
)
def test_an_average_that_is_not_fp32_is_refused(teacher, student, error):
    with pytest.raises(error, match="fp32"):
        ema_update(teacher, student, 0.9)


def test_a_copy_of_another_length_is_refused():
    with pytest.raises(Exception, match=r"elements|lengths differ"):
        ema_update(torch.zeros(3), torch.zeros(3), 0.9, out=torch.zeros(4))


@pytest.mark.parametrize("momentum", [-1e-9, 1.0000001, float("nan"), float("inf")])
def test_a_momentum_outside_of_0_to_1_is_refused_and_moves_nothing(momentum):
    teacher = torch.ones(3)
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        ema_update(teacher, torch.zeros(3), momentum)
    assert torch.equal(teacher, torch.ones(3))


@pytest.mark.parametrize(("momentum", "result"), [(0.0, 0.0), (1.0, 1.0)])
def test_both_ends_are_allowed(momentum, result):
    assert torch.equal(ema_update(torch.ones(3), torch.zeros(3), momentum), torch.full((3,), result))


def test_a_momentum_on_the_device_is_not_read_by_the_host():
    teacher = torch.ones(3)
    with NoSynchronisation():
        ema_update(teacher, torch.zeros(3), torch.tensor(0.5, dtype=torch.float64))
    assert torch.equal(teacher, torch.full((3,), 0.5))
