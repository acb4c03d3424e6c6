"""Every method on a GPU: the CPU's loss and gradient, and not one synchronisation of the host."""

from __future__ import annotations

import pytest
import torch

from skill_fast.methods import METHODS
from tests.methods.small import build, crops, labels

pytestmark = pytest.mark.gpu


@pytest.fixture
def plain_float32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_computes_what_the_cpu_does_without_a_synchronisation(name, plain_float32):
    device = torch.device("cuda")
    here, there = build(name), build(name)
    here.to(torch.device("cpu"))
    there.student.to(device)
    there.teacher.to(device)
    there.to(device)
    given, said = crops(here), labels()
    moved = {key: value.to(device) for key, value in given.items()}
    said_there = {key: value.to(device) for key, value in said.items()}
    expected, _ = here.loss(here.student, given, 0.04, said)
    expected.backward()
    here.reduce()
    here.commit(torch.tensor(True))
    finite = torch.ones((), dtype=torch.bool, device=device)
    there.loss(there.student, moved, 0.04, said_there)[0].backward()  # compiles kernels, allocates
    there.reduce()
    there.commit(~finite)
    there.student.zero_grad()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = there.loss(there.student, moved, 0.04, said_there)
        loss.backward()
        there.reduce()
        there.commit(finite)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-3, atol=1e-4)
    for one, two in zip(here.student.parameters(), there.student.parameters()):
        torch.testing.assert_close(two.grad.cpu(), one.grad, rtol=1e-2, atol=1e-4)
    for key, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[key].cpu(), value, rtol=1e-3, atol=1e-4)
