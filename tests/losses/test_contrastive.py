"""NT-Xent and InfoNCE against the authors' formulas in loops, in float64, and against lightly's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skill_fast.losses.contrastive import info_nce, nt_xent, unit


def rows(n: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def nt_xent_in_loops(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR, equation 1 and algorithm 1: rows 2k-1 and 2k are a pair."""
    z = [row for pair in zip(first, second) for row in pair]
    terms = []
    for i in range(len(z)):
        j = i + 1 if i % 2 == 0 else i - 1
        below = sum(torch.exp(cosine(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
        terms.append(-torch.log(torch.exp(cosine(z[i], z[j]) / temperature) / below))
    return sum(terms) / len(terms)


def info_nce_in_loops(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """MoCo, equation 1."""
    terms = []
    for q, k in zip(queries, keys):
        positive = torch.exp(cosine(q, k) / temperature)
        others = sum(torch.exp(cosine(q, n) / temperature) for n in negatives)
        terms.append(-torch.log(positive / (positive + others)))
    return sum(terms) / len(terms)


def same_with_gradients(ours, theirs, *inputs: Tensor, rtol: float) -> None:
    mine = [x.clone().requires_grad_() for x in inputs]
    others = [x.clone().requires_grad_() for x in inputs]
    a, b = ours(*mine), theirs(*others)
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)
    for x, y in zip(torch.autograd.grad(a, mine), torch.autograd.grad(b, others)):
        torch.testing.assert_close(x, y, rtol=rtol, atol=rtol)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), dim=st.integers(2, 7), temperature=st.sampled_from([0.07, 0.1, 0.5, 2.0]))
def test_nt_xent_is_the_papers_formula(n, dim, temperature):
    same_with_gradients(
        lambda a, b: nt_xent(a, b, temperature),
        lambda a, b: nt_xent_in_loops(a, b, temperature),
        rows(n, dim, 1),
        rows(n, dim, 2),
        rtol=1e-9,
    )


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), queue=st.integers(1, 9), temperature=st.sampled_from([0.07, 0.2, 1.0]))
def test_info_nce_is_the_papers_formula(n, queue, temperature):
    keys, negatives = rows(n, 5, 2), rows(queue, 5, 3)
    same_with_gradients(
        lambda q: info_nce(q, keys, negatives, temperature),
        lambda q: info_nce_in_loops(q, keys, negatives, temperature),
        rows(n, 5, 1),
        rtol=1e-9,
    )


def test_keys_have_no_gradient():
    queries, keys = rows(3, 4, 0).requires_grad_(), rows(3, 4, 1).requires_grad_()
    info_nce(queries, keys, rows(5, 4, 2), 0.2).backward()
    assert queries.grad is not None and keys.grad is None


@pytest.mark.parametrize("parts", [2, 3])
def test_shares_of_a_batch_average_to_the_whole(parts):
    """What ranks compute, each for its own rows among all, is in the mean what one rank computes."""
    first, second = rows(6, 5, 1), rows(6, 5, 2)
    size = 6 // parts
    shares = [
        nt_xent(first[p : p + size], second[p : p + size], 0.1, first, second, place=p) for p in range(0, 6, size)
    ]
    torch.testing.assert_close(sum(shares) / parts, nt_xent(first, second, 0.1), rtol=1e-12, atol=0)


def test_no_information_is_the_logarithm_of_the_choices():
    same = torch.ones(4, 3)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(7), abs=1e-6)
    assert info_nce(same, same, torch.ones(10, 3), 0.2).item() == pytest.approx(math.log(11), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    first, second = rows(5, 7, 1).to(dtype), rows(5, 7, 2).to(dtype)
    loss = nt_xent(first, second, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(first.float(), second.float(), 0.1))
    assert unit(torch.zeros(1, 3, dtype=dtype)).isfinite().all()


def test_lightly_agrees_on_nt_xent():
    from lightly.loss import NTXentLoss

    theirs = NTXentLoss(temperature=0.1)
    same_with_gradients(
        lambda a, b: nt_xent(a, b, 0.1), theirs, rows(7, 16, 1).float(), rows(7, 16, 2).float(), rtol=1e-5
    )


def test_lightly_agrees_on_info_nce():
    """lightly takes the negatives from a memory bank, which it fills by itself: one filled by hand."""
    from lightly.loss import NTXentLoss

    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(11, 16))
    bank = torch.nn.functional.normalize(rows(11, 16, 3).float(), dim=1)
    theirs.memory_bank.bank = bank.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.int64)
    queries, keys = rows(5, 16, 1).float(), rows(5, 16, 2).float()
    expected = theirs(queries, keys)
    torch.testing.assert_close(info_nce(queries, keys, bank, 0.2), expected, rtol=1e-5, atol=1e-6)
