"""The fused average: bit for bit the definition's."""

from __future__ import annotations

import pytest
import torch

from skill_fast.kernels.ema import fused, reference
from tests.kernels.interpreted import native_or_interpreted, rounded

pytestmark = native_or_interpreted
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def shards(elements: int, device, offset: int = 0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(teacher, student), ``offset`` elements behind an aligned address, with three elements behind each."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(2, offset + elements + 3, generator=generator).to(device)
    return whole[0][offset : offset + elements], whole[1].clone()[offset : offset + elements]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("elements", "offset"), [(1, 0), (63, 1), (1025, 0), (1024, 3), (65_536, 0), (5001, 2)])
def test_result_and_copy_are_the_references(device, elements, offset, dtype):
    teacher, student = shards(elements, device, offset)
    before = teacher.untyped_storage().clone()
    wanted = reference.ema_update(teacher.clone(), student, 0.9995)
    out = torch.full((offset + elements + 3,), torch.nan, dtype=dtype, device=device)
    returned = fused.ema_update(teacher, student, 0.9995, out[offset : offset + elements])
    assert returned is teacher
    assert torch.equal(teacher, wanted)
    assert torch.equal(out[offset : offset + elements], rounded(wanted, dtype))
    # Nothing outside the views was written: neither in the copy's buffer nor beside the teacher's shard.
    assert out[:offset].isnan().all() and out[offset + elements :].isnan().all()
    around, was = (torch.tensor([], device=device).set_(s) for s in (teacher.untyped_storage(), before))
    beside = torch.ones_like(around, dtype=torch.bool)
    beside[offset : offset + elements] = False
    assert torch.equal(around[beside], was[beside])


@pytest.mark.parametrize("elements", [1, 63, 1025])
def test_a_hundred_updates_err_no_more_than_twice_plain_torch(device, elements):
    teacher, _ = shards(elements, device)
    plain, exact = teacher.clone(), teacher.double()
    for step in range(100):
        _, student = shards(elements, device, seed=step)
        fused.ema_update(teacher, student, 0.99)
        plain.add_((student - plain) * (1 - 0.99))
        exact = 0.99 * exact + (1 - 0.99) * student.double()
    mine, theirs = ((x.double() - exact).norm() for x in (teacher, plain))
    assert mine <= 2 * theirs


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_agree_bit_for_bit(device, dtype):
    results = []
    for _ in range(2):
        teacher, student = shards(5001, device)
        out = torch.full((5001,), torch.nan, dtype=dtype, device=device)
        results.append((fused.ema_update(teacher, student, 0.996, out), out))
    (first, copied), (second, again) = results
    assert torch.equal(first, second) and torch.equal(copied, again)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_that_was_not_applied_moves_nothing(device, dtype):
    """As engine/teacher.py: m is 1 in float64 on the device, and the student's weights may be anything finite."""
    teacher, student = shards(1025, device)
    kept, out = teacher.clone(), torch.full((1025,), torch.nan, dtype=dtype, device=device)
    fused.ema_update(teacher, student, torch.ones((), dtype=torch.float64, device=device), out)
    assert torch.equal(teacher, kept) and torch.equal(out, rounded(kept, dtype))


def test_momentum_is_read_where_it_is(device):
    for momentum in (0.25, 0.996, 0.9995):
        (a, student), (b, _), (c, _) = (shards(70, device) for _ in range(3))
        on_device = torch.tensor(momentum, device=device)
        fused.ema_update(a, student, on_device)
        assert torch.equal(a, reference.ema_update(b, student, on_device))
        (a, _), (b, _) = (shards(70, device) for _ in range(2))
        exact = torch.tensor(momentum, dtype=torch.float64, device=device)  # as engine/teacher.py passes it
        assert torch.equal(fused.ema_update(a, student, exact), reference.ema_update(b, student, momentum))
        fused.ema_update(c, student, torch.tensor(momentum))  # on the host, so it can be read there
        torch.testing.assert_close(a, c, rtol=2e-7, atol=2e-7)  # 1 - m of the fp32 m and of m differ by a rounding


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9995, 1.0])
def test_equal_weights_stay_equal_and_the_ends_are_exact(device, momentum):
    teacher, student = shards(1030, device)
    kept = teacher.clone()
    fused.ema_update(teacher, teacher.clone(), momentum)
    assert torch.equal(teacher, kept)
    fused.ema_update(teacher, student, 1.0)
    assert torch.equal(teacher, kept)


def test_no_elements_are_no_work_and_gaps_are_refused(device):
    nothing = torch.zeros(0, device=device)
    assert fused.ema_update(nothing, nothing.clone(), 0.5).numel() == 0
    gaps = torch.zeros(10, device=device)[::2]
    with pytest.raises(ValueError, match="without gaps"):
        fused.ema_update(gaps, torch.zeros(5, device=device), 0.5)


@pytest.mark.gpu
def test_more_elements_than_32_bits_count(device):
    elements = 2**31 + 5
    teacher, student = torch.zeros(elements, device=device), torch.ones(elements, device=device)
    out = torch.zeros(elements, dtype=torch.bfloat16, device=device)
    fused.ema_update(teacher, student, 0.5, out)
    for part in (teacher, out):
        assert part[:5].eq(0.5).all() and part[-10:].eq(0.5).all() and part[2**31 - 5 : 2**31 + 5].eq(0.5).all()
