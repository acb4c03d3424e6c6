"""The distillation loss against the double loop of its definition, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import skill_fast.kernels
from skill_fast.kernels import distillation_loss
from tests.kernels.oracles import logits, oracle, softmax


@pytest.mark.parametrize("pairs", ["dino", "cross_resolution"])
@pytest.mark.parametrize(("views", "batch", "prototypes"), [(10, 2, 63), (3, 1, 1025), (4, 5, 1), (6, 3, 64)])
def test_loss_and_gradient_equal_the_double_loop(pairs, views, batch, prototypes):
    student = logits(views, batch, prototypes, 0).requires_grad_()
    teacher, center = logits(2, batch, prototypes, 1), logits(1, 1, prototypes, 2)[0, 0] * 0.1
    ours = distillation_loss(student, teacher, center, 0.1, 0.04, pairs)
    (gradient,) = torch.autograd.grad(ours.loss, student)
    theirs = oracle(student, teacher, center, 0.1, 0.04, pairs)
    (expected,) = torch.autograd.grad(theirs[0], student)

    # fp32 with logits divided by 0.04: log-softmax values reach 50, and 1e-6 of that is about one last place.
    for got, wanted in zip(ours, theirs):
        torch.testing.assert_close(got.double(), wanted.detach(), rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(gradient.double(), expected.double(), rtol=1e-4, atol=1e-7)


def test_a_view_is_never_compared_with_itself():
    """With two global crops and no local ones, only the pairs (0, 1) and (1, 0) count."""
    student, teacher = logits(2, 3, 17, 0).requires_grad_(), logits(2, 3, 17, 1)
    center = torch.zeros(17)
    both = distillation_loss(student, teacher, center, 0.1, 0.04).loss
    alone = [
        -(softmax(teacher[t, b] / 0.04) * torch.log(softmax(student[1 - t, b] / 0.1))).sum()
        for t in range(2)
        for b in range(3)
    ]
    torch.testing.assert_close(both, sum(alone) / 6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_taken_as_they_are(dtype):
    """Half-precision input costs only its own rounding: the same values in fp32 give the same loss bit for bit."""
    student, teacher = logits(4, 3, 129, 0).to(dtype), logits(2, 3, 129, 1).to(dtype)
    center = torch.zeros(129)
    low = distillation_loss(student, teacher, center, 0.1, 0.04)
    full = distillation_loss(student.float(), teacher.float(), center, 0.1, 0.04)
    for got, wanted in zip(low, full):
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


def test_uniform_collapse_reads_ln_k():
    flat = torch.full((4, 2, 256), 0.3)
    out = distillation_loss(flat, flat[:2], torch.zeros(256), 0.1, 0.04)
    assert out.loss.item() == pytest.approx(math.log(256), abs=1e-5)
    assert out.teacher_entropy.item() == pytest.approx(math.log(256), abs=1e-5)
    assert out.kl.item() == pytest.approx(0, abs=1e-5)


def test_no_gradient_reaches_the_teacher():
    teacher = logits(2, 2, 9, 1).requires_grad_()
    student = logits(3, 2, 9, 0).requires_grad_()
    distillation_loss(student, teacher, torch.zeros(9), 0.1, 0.04).loss.backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


@given(st.integers(0, 1000), st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_a_shift_of_all_logits_changes_nothing(seed, shift):
    student, teacher, center = logits(3, 2, 33, seed), logits(2, 2, 33, seed + 1), torch.zeros(33)
    plain = distillation_loss(student, teacher, center, 0.1, 0.04)
    moved = distillation_loss(student + shift, teacher + shift, center, 0.1, 0.04)
    # fp32 rounds (logit + 5) / 0.04 to about 1.5e-5.
    torch.testing.assert_close(plain.loss, moved.loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize(("views", "batch", "prototypes"), [(4, 0, 8), (0, 3, 8), (4, 3, 0)])
def test_nothing_is_refused_alike_by_both_backends(monkeypatch, backend, views, batch, prototypes):
    """Before any kernel is asked for: the shapes are named. Plain torch's mean of nothing would be NaN."""
    monkeypatch.setattr(skill_fast.kernels.backend, "_chosen", backend)
    student, teacher = torch.zeros(views, batch, prototypes), torch.zeros(2, batch, prototypes)
    with pytest.raises(ValueError, match=rf"student \({views}, {batch}, {prototypes}\), teacher \(2, {batch}"):
        distillation_loss(student, teacher, torch.zeros(prototypes), 0.1, 0.04)


@pytest.mark.parametrize(
    ("views", "pairs", "prototypes", "message"),
    [
        (2, "cross_resolution", 8, "needs more than"),
        (3, "all", 8, "allowed: dino"),
        (3, "dino", 7, "shapes differ|'center'"),  # jaxtyping's own check comes first under pytest
    ],
)
def test_wrong_input_is_named(views, pairs, prototypes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distillation_loss(logits(views, 2, 8, 0), logits(2, 2, 8, 1), torch.zeros(prototypes), 0.1, 0.04, pairs)
