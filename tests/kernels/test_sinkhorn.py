"""Sinkhorn-Knopp against its matrix form in float64 loops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
import torch.distributed as dist

from skill_fast.kernels import distillation_loss, sinkhorn
from tests.kernels.oracles import logits


def assignments(teacher: torch.Tensor, temp: float, iterations: int) -> torch.Tensor:
    """DINOv2's steps, one number after the other: [rows, prototypes], float64."""
    q = torch.exp(teacher.double() / temp)
    rows, prototypes = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            q[:, k] = q[:, k] / sum(q[b, k] for b in range(rows)) / prototypes
        for b in range(rows):
            q[b] = q[b] / sum(q[b, k] for k in range(prototypes)) / rows
    return q * rows


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(("views", "batch", "prototypes"), [(2, 3, 1), (2, 4, 63), (1, 1, 17)])
def test_softmax_with_this_center_is_the_assignment(iterations, views, batch, prototypes):
    teacher = logits(views, batch, prototypes, 0)
    center = sinkhorn(teacher, 0.04, iterations)
    targets = torch.softmax((teacher - center) / 0.04, dim=-1).flatten(0, 1)
    # fp32 rounds logits over 0.04, up to 25, to 1e-6 each.
    torch.testing.assert_close(
        targets.double(), assignments(teacher.flatten(0, 1), 0.04, iterations), rtol=2e-5, atol=1e-8
    )


def test_prototypes_are_used_evenly():
    teacher = logits(2, 100, 10, 0) + torch.linspace(0, 1, 10)  # the later prototypes win nearly always
    alone = torch.softmax(teacher / 0.1, -1).mean((0, 1))
    even = torch.softmax((teacher - sinkhorn(teacher, 0.1, 10)) / 0.1, -1).mean((0, 1))
    assert alone.max() > 3 / 10 and (even - 1 / 10).abs().max() < 0.005


def test_logits_of_any_size_stay_finite():
    teacher = logits(2, 5, 33, 0) * 5
    shifted = sinkhorn(teacher + 1000, 0.04) - 1000
    assert shifted.isfinite().all()  # exp(1000 / 0.04) is not
    torch.testing.assert_close(shifted, sinkhorn(teacher, 0.04), rtol=0, atol=1e-3)


class Ranks:
    """all_reduce between threads."""

    def __init__(self, count: int) -> None:
        self.barrier, self.given = Barrier(count, timeout=30), [None] * count

    def reducer(self, rank: int):
        def all_reduce(tensor, op):
            self.given[rank] = tensor.clone()
            self.barrier.wait()
            together = torch.stack(self.given)
            self.barrier.wait()
            tensor.copy_(together.amax(0) if op == dist.ReduceOp.MAX else together.sum(0))

        return all_reduce


def test_ranks_together_do_what_one_would_do_alone():
    teacher = logits(2, 6, 40, 0)
    ranks = Ranks(3)
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(sinkhorn, teacher[:, 2 * r : 2 * r + 2], 0.04, 3, ranks.reducer(r)) for r in range(3)]
        centers = [w.result() for w in work]
    for center in centers:
        torch.testing.assert_close(center, sinkhorn(teacher, 0.04), rtol=1e-5, atol=1e-5)


def test_the_loss_takes_it_as_its_center():
    teacher, student = logits(2, 3, 50, 0), logits(4, 3, 50, 1)
    out = distillation_loss(student, teacher, sinkhorn(teacher, 0.04), 0.1, 0.04)
    assert out.loss.isfinite() and out.teacher_entropy > 0


def test_no_iteration_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        sinkhorn(logits(2, 2, 4, 0), 0.04, 0)
