"""lightly's DINOLoss and ours over 20 steps of a center that moves: loss, gradient and center."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import DINOLoss

from skill_fast.kernels import center_update, distillation_loss
from tests.kernels.oracles import logits

STEPS, PROTOTYPES, BATCH, MOMENTUM = 20, 65, 3, 0.9


@pytest.mark.parametrize("views", [2, 5])
@pytest.mark.parametrize("teacher_temp", [0.04, 0.07])
def test_twenty_steps_agree(views, teacher_temp):
    """Each step's logits are other ones, and lean to one side, so that the center has somewhere to go.

    float32 on both sides: losses near ln 65 to a few last places; a gradient is a difference of probabilities over
    the student's temperature, of the size 1e-2.
    """
    theirs = DINOLoss(PROTOTYPES, teacher_temp=teacher_temp, student_temp=0.1, center_momentum=MOMENTUM)
    center = torch.zeros(PROTOTYPES)
    lean = torch.linspace(-0.5, 0.5, PROTOTYPES)
    for step in range(STEPS):
        student = logits(views, BATCH, PROTOTYPES, step).requires_grad_()
        teacher = logits(2, BATCH, PROTOTYPES, 1000 + step) + lean
        ours = distillation_loss(student, teacher, center, 0.1, teacher_temp)
        (gradient,) = torch.autograd.grad(ours.loss, student)
        expected = theirs(list(teacher), list(student))
        (expected_gradient,) = torch.autograd.grad(expected, student)
        torch.testing.assert_close(ours.loss, expected.detach(), rtol=2e-6, atol=0, msg=f"step {step}")
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
        center = center_update(center, ours.teacher_sum, 2 * BATCH, MOMENTUM)
        torch.testing.assert_close(center, theirs.center.flatten(), rtol=1e-5, atol=1e-7)
    assert center.std() > 0.1
