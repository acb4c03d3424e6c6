"""The fused distillation loss: forward and gradient against the double loop in float64, and never far behind torch."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skill_fast.kernels
from skill_fast.kernels import backend
from skill_fast.kernels.centering import fused as centering
from skill_fast.kernels.distillation import fused, reference
from tests.kernels.interpreted import INTERPRETED, native_or_interpreted, rounded
from tests.kernels.oracles import logits, oracle

pytestmark = [native_or_interpreted, pytest.mark.usefixtures("poisoned")]
STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.04
DTYPES, PAIRS = [torch.float32, torch.bfloat16, torch.float16], ["dino", "cross_resolution"]


def inputs(device, student_views, batch, prototypes, dtype=torch.float32, teacher_views=2):
    """(student with gradient, teacher, center) on ``device``: cosines and a tenth of them."""
    student = logits(student_views, batch, prototypes, 0).to(dtype).to(device)
    teacher = logits(teacher_views, batch, prototypes, 1).to(dtype).to(device)
    return student.requires_grad_(), teacher, (logits(1, 1, prototypes, 2)[0, 0] * 0.1).to(device)


def with_gradient(loss, student, *others, pairs="dino", temps=(STUDENT_TEMP, TEACHER_TEMP), upstream=1.0):
    """The four outputs and the gradient of loss times ``upstream``."""
    outputs = loss(student, *others, *temps, pairs)
    return *(o.detach() for o in outputs), torch.autograd.grad(outputs[0] * upstream, student)[0]


def assert_as_good_as_torch(student, teacher, center, pairs):
    """Each output's error is at most twice plain torch's in the same precision, both against float64."""
    mine = with_gradient(fused.distillation_loss, student, teacher, center, pairs=pairs)
    theirs = with_gradient(reference.distillation_loss, student, teacher, center, pairs=pairs)
    if INTERPRETED and student.dtype == torch.bfloat16:  # which cuts bf16 off where a GPU rounds: here torch does too
        single = student.detach().float().requires_grad_()
        *_, gradient = with_gradient(reference.distillation_loss, single, teacher, center, pairs=pairs)
        theirs = (*theirs[:4], rounded(gradient, torch.bfloat16))
    wide = student.detach().double().requires_grad_()
    exact = with_gradient(oracle, wide, teacher, center, pairs=pairs)
    for name, m, t, e in zip(("loss", "teacher_sum", "entropy", "kl", "gradient"), mine, theirs, exact):
        assert m.dtype == t.dtype and m.shape == t.shape, name
        mine_off, theirs_off = ((x.double() - e).norm() for x in (m, t))
        # A single number can be hit exactly by luck: four last places of fp32, at most those of a logit over 0.04.
        floor = 4 * 2**-24 * max(e.abs().max().item(), 25 if m.dim() == 0 else 0)
        assert mine_off <= 2 * theirs_off + floor, (name, mine_off, theirs_off)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize(("views", "batch", "prototypes"), [(4, 3, 1), (10, 1, 63), (3, 2, 1024), (3, 2, 1025)])
def test_loss_and_gradient_equal_the_double_loop(device, pairs, views, batch, prototypes, dtype):
    assert_as_good_as_torch(*inputs(device, views, batch, prototypes, dtype), pairs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", PAIRS)
def test_65_536_prototypes(device, monkeypatch, pairs, dtype):
    if INTERPRETED:  # larger blocks: the interpreter takes its time for each
        monkeypatch.setattr(fused, "LAUNCH", fused.Launch(tile=32_768, gradient_block=16_384))
    views, batch = (3, 1) if INTERPRETED else (10, 4)
    assert_as_good_as_torch(*inputs(device, views, batch, 65_536 + (dtype == torch.float32), dtype), pairs)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("prototypes", [262_143, 262_144])
def test_262_144_prototypes(device, pairs, prototypes, dtype):
    assert_as_good_as_torch(*inputs(device, 10, 3, prototypes, dtype), pairs)


@pytest.mark.gpu
def test_more_logits_than_32_bits_count(device):
    """10 views of 4,096 rows of 65,536: 2.7e9 numbers. The first and last rows have the gradient of two rows alone."""
    student, teacher, center = inputs(device, 3, 2, 65_536, torch.bfloat16)
    many = [x.detach().repeat_interleave(2048, 1) for x in (torch.cat([student] * 4)[:10], teacher)]
    *_, gradient = with_gradient(fused.distillation_loss, many[0].requires_grad_(), many[1], center)
    few = torch.cat([student.detach()] * 4)[:10].requires_grad_()
    *_, alone = with_gradient(fused.distillation_loss, few, teacher, center, upstream=1 / 2048)
    # Scaled by another power of two's worth of rows: the same numbers, rounded once to bf16.
    torch.testing.assert_close(gradient[:, [0, -1]], alone, rtol=2**-7, atol=0)


@pytest.mark.parametrize("batch", [1, 1024, 2500])
def test_the_last_kernel_over_any_number_of_rows_and_groups(device, batch):
    """Means of all rows, beyond one block of 1,024 too; column sums of as many groups, to the last place of fp32."""
    rng = torch.Generator().manual_seed(batch)
    row_means = torch.rand(3, batch, generator=rng).to(device)
    parts = (torch.rand(batch, 5, generator=rng) + 0.5).to(device)
    means, column = (
        [torch.full((), math.nan, device=device) for _ in range(3)],
        torch.full((5,), math.nan, device=device),
    )
    fused.finish_kernel[(2,)](row_means, parts, *means, column, batch, batch, 5, BLOCK=1024, num_warps=4)
    for got, wanted in zip(means, row_means.double().cpu()):
        assert got.item() == pytest.approx(math.fsum(wanted.tolist()) / batch, rel=2e-6)
    exact = torch.tensor([math.fsum(values) for values in parts.double().cpu().T.tolist()], dtype=torch.float64)
    torch.testing.assert_close(column.double().cpu(), exact, rtol=2**-23, atol=0)


@settings(
    max_examples=15 if INTERPRETED else 50,
    deadline=None,
    derandomize=True,  # on a GPU each new shape compiles: the same ones at every run
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_any_number_of_views_rows_prototypes_and_programs(device, data):
    pairs, dtype = data.draw(st.sampled_from(PAIRS)), data.draw(st.sampled_from(DTYPES))
    teacher_views = data.draw(st.integers(1, 4))
    views = data.draw(st.integers(2 if pairs == "dino" else 3, 12))
    batch, prototypes = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 400))
    tile, block = (data.draw(st.sampled_from([64, 128, 256, 1024])) for _ in range(2))
    launch = fused.Launch(tile=tile, programs=data.draw(st.integers(1, 30)), gradient_block=block)
    with mock.patch.object(fused, "LAUNCH", launch):
        assert_as_good_as_torch(*inputs(device, views, batch, prototypes, dtype, teacher_views=teacher_views), pairs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sinkhorns_center_is_a_center_like_any_other(device, dtype):
    student, teacher, _ = inputs(device, 4, 3, 130, dtype)
    assert_as_good_as_torch(student, teacher, centering.sinkhorn(teacher, TEACHER_TEMP, 3, lambda *_, op: None), "dino")


@pytest.mark.parametrize("teacher_views", [1, 3, 5])
def test_any_number_of_teacher_views(device, teacher_views):
    assert_as_good_as_torch(*inputs(device, 6, 2, 130, teacher_views=teacher_views), "dino")


def test_groups_of_rows_are_summed_over(device, monkeypatch):
    """Fewer programs than rows: each walks over several rows, the last over fewer."""
    monkeypatch.setattr(fused, "LAUNCH", fused.Launch(programs=2))
    assert_as_good_as_torch(*inputs(device, 3, 5, 40), "dino")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", PAIRS)
def test_two_runs_agree_bit_for_bit(device, pairs, dtype):
    given = inputs(device, 3, 2, 600, dtype) if INTERPRETED else inputs(device, 10, 64, 65_536, dtype)
    first, second = (with_gradient(fused.distillation_loss, *given, pairs=pairs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_rows_may_lie_anywhere(device):
    """Slices of wider rows, views and batch exchanged, unaligned starts, prototypes not adjacent: the same numbers."""
    student, teacher, center = inputs(device, 3, 3, 70)
    plain = with_gradient(fused.distillation_loss, student, teacher, center)
    wide = torch.full((3, 3, 90), torch.nan, device=device)
    wide[:, :, 5:75] = student.detach().transpose(0, 1)
    apart = torch.full((2, 3, 70, 2), torch.nan, device=device)
    apart[..., 1] = teacher
    lying = wide.transpose(0, 1)[:, :, 5:75].requires_grad_()
    assert not lying.is_contiguous() and apart[..., 1].stride(-1) == 2
    for a, b in zip(plain, with_gradient(fused.distillation_loss, lying, apart[..., 1], center)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("strides", [(2**30, 64), (64, 2**30)], ids=["views", "rows"])
def test_rows_may_lie_further_apart_than_32_bits_count(device, strides):
    """Distances that 32 bits hold, offsets that they do not: 4 GiB of addresses, of which a CPU touches few pages."""
    memory = torch.empty_strided((2**31 + 2048,), (1,), dtype=torch.bfloat16, device=device)
    student, teacher, center = inputs(device, 3, 3, 40, torch.bfloat16, teacher_views=3)
    far = [memory.as_strided((3, 3, 40), (*strides, 1), offset) for offset in (0, 1024)]
    for view, values in zip(far, (student.detach(), teacher)):
        view.copy_(values)
    near = with_gradient(fused.distillation_loss, student, teacher, center)
    for a, b in zip(near, with_gradient(fused.distillation_loss, far[0].requires_grad_(), far[1], center)):
        assert torch.equal(a, b)


def test_temperatures_may_be_on_the_device_and_the_upstream_gradient_counts(device):
    given = inputs(device, 3, 2, 33)
    numbers = with_gradient(fused.distillation_loss, *given)
    there = torch.tensor(STUDENT_TEMP, device=device), torch.tensor(TEACHER_TEMP, device=device)
    scale = torch.tensor(1024.0, device=device)
    tensors = with_gradient(fused.distillation_loss, *given, temps=there, upstream=scale)
    for a, b in zip(numbers[:4], tensors[:4]):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(numbers[4] * 1024, tensors[4], rtol=1e-5, atol=1e-6)


def test_views_of_no_pair_get_a_gradient_of_zero(device):
    *_, gradient = with_gradient(fused.distillation_loss, *inputs(device, 4, 2, 20), pairs="cross_resolution")
    assert gradient[:2].eq(0).all() and gradient[2:].abs().sum() > 0


def test_no_gradient_reaches_the_teacher(device):
    student, teacher, center = inputs(device, 3, 2, 9)
    outputs = fused.distillation_loss(student, teacher.requires_grad_(), center, 0.1, 0.04, "dino")
    assert [o.requires_grad for o in outputs] == [True, False, False, False]
    outputs[0].backward()
    assert teacher.grad is None and student.grad is not None


def test_uniform_collapse_and_far_logits(device):
    flat = torch.full((4, 2, 256), 0.3, device=device)
    loss, _, entropy, kl = fused.distillation_loss(flat, flat[:2], torch.zeros(256, device=device), 0.1, 0.04, "dino")
    for value in (loss, entropy):
        assert value.item() == pytest.approx(math.log(256), abs=1e-5)
    assert kl.item() == pytest.approx(0, abs=1e-5)
    student, teacher, center = inputs(device, 3, 2, 130)
    near = with_gradient(fused.distillation_loss, student, teacher, center)
    far = with_gradient(fused.distillation_loss, (student.detach() + 5).requires_grad_(), teacher - 5, center)
    # fp32 rounds (logit + 5) / 0.04 to about 1.5e-5.
    torch.testing.assert_close(near[0], far[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(near[4], far[4], rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's word for what is tested
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_logit_that_is_not_finite_makes_the_loss_so(device, bad, whose):
    student, teacher, center = inputs(device, 3, 2, 130)
    {"student": student.detach(), "teacher": teacher}[whose][1, 1, 55] = bad
    loss, *_ = fused.distillation_loss(student.detach(), teacher, center, 0.1, 0.04, "dino")
    assert not loss.isfinite()


def test_the_contract_calls_the_kernels(device, monkeypatch):
    monkeypatch.setattr(backend, "_chosen", "fused")
    student, teacher, center = inputs(device, 3, 2, 50)
    calls = []
    monkeypatch.setattr(fused, "distillation_loss", lambda *a, f=fused.distillation_loss: calls.append(1) or f(*a))
    through = skill_fast.kernels.distillation_loss(student, teacher, center, 0.1, 0.04)
    assert calls and all(o.isfinite().all() for o in through)
    assert "fused (as chosen: Triton" in backend.describe(device)
