"""lightly's DINOLoss and the fused kernels over 20 steps of a center that moves: loss, gradient and center."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import DINOLoss

from skill_fast.kernels.centering import fused as centering
from skill_fast.kernels.distillation import fused
from tests.kernels.interpreted import native_or_interpreted
from tests.kernels.oracles import logits

pytestmark = native_or_interpreted
STEPS, PROTOTYPES, BATCH, MOMENTUM, STUDENT_TEMP = 20, 65, 3, 0.9, 0.1
LAST_PLACE = 2**-24
"""Of fp32, relative: what one rounding costs at most."""


@pytest.mark.parametrize(("views", "teacher_temp"), [(2, 0.04), (4, 0.07)])
def test_twenty_steps_agree(device, poisoned, views, teacher_temp):
    """Tolerances: an exponent x / temp as large as E is held to E last places, so is its exponential, relatively. The
    loss adds K of them a row, with logarithms as large as 2 / student_temp + ln K. The center repeats 20 roundings."""
    theirs = DINOLoss(PROTOTYPES, teacher_temp=teacher_temp, student_temp=STUDENT_TEMP, center_momentum=MOMENTUM)
    theirs = theirs.to(device)
    center, lean = torch.zeros(PROTOTYPES, device=device), torch.linspace(-0.5, 0.5, PROTOTYPES, device=device)
    exponent = 2 * 2.0 / teacher_temp  # logits and center within 2 of each other, twice: both sides round
    for step in range(STEPS):
        student = logits(views, BATCH, PROTOTYPES, step).to(device).requires_grad_()
        teacher = logits(2, BATCH, PROTOTYPES, 1000 + step).to(device) + lean
        loss, total, *_ = fused.distillation_loss(student, teacher, center, STUDENT_TEMP, teacher_temp, "dino")
        (gradient,) = torch.autograd.grad(loss, student)
        expected = theirs(list(teacher), list(student))
        (expected_gradient,) = torch.autograd.grad(expected, student)
        torch.testing.assert_close(loss, expected.detach(), rtol=exponent * LAST_PLACE, atol=0, msg=f"step {step}")
        # A gradient is p - q over temperature, pairs and batch: each side errs by its own exponent.
        largest = 1 / STUDENT_TEMP / (2 * (views - 1)) / BATCH
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=exponent * LAST_PLACE * 2 * largest)
        center = centering.center_update(center, total, 2 * BATCH, MOMENTUM)
        torch.testing.assert_close(center, theirs.center.flatten(), rtol=0, atol=STEPS * LAST_PLACE)
    assert center.std() > 0.1
