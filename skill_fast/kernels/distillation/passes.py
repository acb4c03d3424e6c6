"""Two passes over the distillation loss's logits as Triton kernels: what each program reads, computes and writes.

::

    forward   partials   per row b and chunk of prototypes, each view's chunk read once: maxima m, sums of 2^(u - m),
                         for the entropy sum 2^(u - m) (u - m), per pair sum 2^(u - m_u) (v - m_v)
              combine    per row b: its chunks in their order to the softmaxes' norms, cross-entropies, entropy, KL
              finish     rows, and groups of rows, in their order to the three means and the teacher's column sums
    backward  gradient   per row b and chunk, each view's chunk read once more:
                         dy_s = g / (pairs B student_temp) (pairs_of_s p_s - sum_{t paired with s} q_t)

with u = log2(e) (x - center) / teacher_temp of the teacher's logits x, v = log2(e) y / student_temp of the student's y.

Everything inside is fp32; no atomics. ``fused.py`` launches them.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
@no_type_check  # jaxtyping's import hook would wrap the kernel
def _scale(temp, ON_DEVICE: tl.constexpr):
    """log2(e) / temp, where temp is a number or the address of one: 2^(scale x) is exp(x / temp)."""
    if ON_DEVICE:
        return 1.4426950408889634 / tl.load(temp).to(tl.float32)
    else:
        return 1.4426950408889634 / temp


@triton.jit
@no_type_check
def partials_kernel(
    student, teacher, center, teacher_parts, student_parts, dots, column_parts, batch, prototypes, chunks, rows,
    student_view, student_row, teacher_view, teacher_row, student_temp, teacher_temp,
    S: tl.constexpr, S_PAD: tl.constexpr, T: tl.constexpr, T_PAD: tl.constexpr, FIRST: tl.constexpr,
    STUDENT_TEMP_READ: tl.constexpr, TEACHER_TEMP_READ: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """One chunk of prototypes of one group of rows, maxima and exponents to the base 2.

    teacher_parts [batch, chunks, 3, T]: maximum m, sum 2^(u - m), sum 2^(u - m) (u - m).
    student_parts [batch, chunks, 2, S]: maximum m, sum 2^(v - m).
    dots [batch, chunks, T, S]: sum 2^(u - m_u) (v - m_v). column_parts [groups, prototypes]: sum x.
    """
    chunk, group = tl.program_id(0), tl.program_id(1)
    k = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = (k < prototypes) | WHOLE
    student_scale, teacher_scale = _scale(student_temp, STUDENT_TEMP_READ), _scale(teacher_temp, TEACHER_TEMP_READ)
    t, lane = tl.arange(0, T_PAD), tl.arange(0, S_PAD)
    is_view = t < T
    at_view = tl.minimum(t, T - 1).to(tl.int64)  # a tile has a power of two of rows: the last view again, not stored
    column = tl.zeros([BLOCK], dtype=tl.float32)
    first_row = group.to(tl.int64) * rows
    for i in range(tl.minimum(rows, batch - group * rows)):
        b = first_row + i
        x = tl.load(
            teacher + at_view[:, None] * teacher_view + b * teacher_row + k[None, :],
            mask=inside[None, :], other=float("-inf"),
        ).to(tl.float32)  # fmt: skip
        column += tl.sum(tl.where(is_view[:, None], x, 0), axis=0)
        x -= tl.load(center + k, mask=inside, other=0)[None, :]
        top = tl.max(x, axis=1) * teacher_scale
        u = x * teacher_scale - top[:, None]
        e = tl.exp2(u)
        peaks = tl.zeros([S_PAD], dtype=tl.float32)
        sums = tl.zeros([S_PAD], dtype=tl.float32)
        products = tl.zeros([T_PAD, S_PAD], dtype=tl.float32)
        # One store after all views: a store between them would keep the next view's load from being issued early.
        for s in tl.static_range(FIRST, S):
            row = student + tl.full([], s, tl.int64) * student_view + b * student_row
            y = tl.load(row + k, mask=inside, other=float("-inf")).to(tl.float32)
            peak = tl.max(y, axis=0) * student_scale
            v = y * student_scale - peak
            peaks = tl.where(lane == s, peak, peaks)
            sums = tl.where(lane == s, tl.sum(tl.exp2(v), axis=0), sums)
            product = tl.sum(e * tl.where(inside, v, 0)[None, :], axis=1)
            products = tl.where((lane == s)[None, :], product[:, None], products)
        tile = b * chunks + chunk
        teacher_part = teacher_parts + tile * (3 * T) + t
        tl.store(teacher_part, top, mask=is_view)
        tl.store(teacher_part + T, tl.sum(e, axis=1), mask=is_view)
        tl.store(teacher_part + 2 * T, tl.sum(e * tl.where(inside[None, :], u, 0), axis=1), mask=is_view)
        student_part = student_parts + tile * (2 * S) + lane
        tl.store(student_part, peaks, mask=lane < S)
        tl.store(student_part + S, sums, mask=lane < S)
        dot = dots + tile * (T * S) + t[:, None] * S + lane[None, :]
        tl.store(dot, products, mask=is_view[:, None] & (lane < S)[None, :])
    tl.store(column_parts + group.to(tl.int64) * prototypes + k, column, mask=inside)


@triton.jit
@no_type_check
def combine_kernel(
    teacher_parts, student_parts, dots, teacher_norms, student_norms, row_means, batch, chunks,
    S: tl.constexpr, T: tl.constexpr, T_PAD: tl.constexpr, FIRST: tl.constexpr, PAIRS: tl.constexpr,
    CHUNKS: tl.constexpr,
):  # fmt: skip
    """One row: its chunks to teacher_norms [2, T, batch], student_norms [2, S, batch] and row_means [3, batch].

    norms: maximum m and n = sum 2^(u - m), kept apart because softmax = 2^(u - m) / n loses less than 2^(u - lse).
    row_means, in nats: loss, entropy of q, KL.
    """
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, CHUNKS)
    inside = c < chunks
    tile = b * chunks + c
    t = tl.arange(0, T_PAD)
    is_view = t < T
    at_view = tl.minimum(t, T - 1)
    part = teacher_parts + (tile * (3 * T))[None, :] + at_view[:, None]
    m = tl.load(part, mask=inside[None, :], other=float("-inf"))
    length = tl.load(part + T, mask=inside[None, :], other=0)
    spread = tl.load(part + 2 * T, mask=inside[None, :], other=0)
    top = tl.max(m, axis=1)
    share = tl.exp2(m - top[:, None])  # of a chunk's sums in sums relative to the row's maximum
    total = tl.sum(share * length, axis=1)
    tl.store(teacher_norms + at_view * batch + b, top, mask=is_view)
    tl.store(teacher_norms + (T + at_view) * batch + b, total, mask=is_view)
    behind = tl.where(inside[None, :], m - top[:, None], 0) - tl.log2(total)[:, None]  # log2 q where the chunk peaks
    log_q = share * (spread + behind * length)
    entropy = tl.where(is_view, -LN_2 * tl.sum(log_q, axis=1) / total, 0)

    loss = tl.zeros([T_PAD], dtype=tl.float32)
    own_share = tl.zeros([T_PAD], dtype=tl.float32)
    for s in tl.static_range(FIRST, S):
        student_part = student_parts + tile * (2 * S) + s
        m_s = tl.load(student_part, mask=inside, other=float("-inf"))
        length_s = tl.load(student_part + S, mask=inside, other=0)
        top_s = tl.max(m_s, axis=0)
        total_s = tl.sum(tl.exp2(m_s - top_s) * length_s, axis=0)
        norms = student_norms + tl.full([], s, tl.int64) * batch + b
        tl.store(norms, top_s)
        tl.store(norms + tl.full([], S, tl.int64) * batch, total_s)
        behind_s = tl.where(inside, m_s - top_s, 0) - tl.log2(total_s)
        dot = tl.load(
            dots + (tile * (T * S))[None, :] + (at_view * S + s)[:, None], mask=inside[None, :], other=0
        )  # fmt: skip
        log_p = share * (dot + behind_s[None, :] * length)
        is_pair = is_view & (t != s)
        loss += tl.where(is_pair, -LN_2 * tl.sum(log_p, axis=1) / total, 0)
        own_share += tl.where(is_pair, entropy, 0)
    row_loss = tl.sum(loss, axis=0) / PAIRS
    tl.store(row_means + b, row_loss)
    tl.store(row_means + batch + b, tl.sum(entropy, axis=0) / T)
    tl.store(row_means + 2 * batch + b, row_loss - tl.sum(own_share, axis=0) / PAIRS)


@triton.jit
@no_type_check
def finish_kernel(
    row_means, column_parts, loss, entropy, kl, teacher_sum, batch, groups, prototypes, BLOCK: tl.constexpr
):
    """Program 0: the means over rows; the others: a block of the teacher's column sums each."""
    lane = tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        of = tl.arange(0, 4)
        sums = tl.zeros([4, BLOCK], dtype=tl.float32)
        for start in range(0, batch, BLOCK):
            b = start + lane
            there = (of < 3)[:, None] & (b < batch)[None, :]
            sums += tl.load(row_means + of[:, None] * batch + b[None, :], mask=there, other=0)
        means = tl.sum(sums, axis=1) / batch
        tl.store(loss, tl.sum(tl.where(of == 0, means, 0), axis=0))
        tl.store(entropy, tl.sum(tl.where(of == 1, means, 0), axis=0))
        tl.store(kl, tl.sum(tl.where(of == 2, means, 0), axis=0))
    else:
        k = (tl.program_id(0) - 1) * BLOCK + lane
        column = tl.zeros([BLOCK], dtype=tl.float32)
        lost = tl.zeros([BLOCK], dtype=tl.float32)  # with few prototypes every row is a group: Kahan's sum
        for group in range(groups):
            at = column_parts + tl.full([], group, tl.int64) * prototypes + k
            part = tl.load(at, mask=k < prototypes, other=0) - lost
            total = column + part
            lost = (total - column) - part
            column = total
        tl.store(teacher_sum + k, column, mask=k < prototypes)


@triton.jit
@no_type_check
def gradient_kernel(
    student, teacher, center, teacher_norms, student_norms, upstream, gradient, batch, prototypes, chunks,
    student_view, student_row, teacher_view, teacher_row, student_temp, teacher_temp,
    S: tl.constexpr, T: tl.constexpr, T_PAD: tl.constexpr, FIRST: tl.constexpr, PAIRS: tl.constexpr,
    STUDENT_TEMP_READ: tl.constexpr, TEACHER_TEMP_READ: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """One chunk of prototypes of one row: of gradient [S, batch, prototypes], contiguous, loss times ``upstream``."""
    chunk = tl.program_id(0) % chunks
    b = (tl.program_id(0) // chunks).to(tl.int64)
    k = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = (k < prototypes) | WHOLE
    student_scale, teacher_scale = _scale(student_temp, STUDENT_TEMP_READ), _scale(teacher_temp, TEACHER_TEMP_READ)
    factor = tl.load(upstream) * student_scale * LN_2 / PAIRS / batch
    t = tl.arange(0, T_PAD)
    at_view = tl.minimum(t, T - 1).to(tl.int64)
    x = tl.load(
        teacher + at_view[:, None] * teacher_view + b * teacher_row + k[None, :],
        mask=inside[None, :], other=float("-inf"),
    ).to(tl.float32)  # fmt: skip
    x -= tl.load(center + k, mask=inside, other=0)[None, :]
    top = tl.load(teacher_norms + at_view * batch + b)
    weight = tl.where(t < T, factor / tl.load(teacher_norms + (T + at_view) * batch + b), 0)
    q = tl.exp2(x * teacher_scale - top[:, None]) * weight[:, None]  # times ``factor``, as p below
    all_q = tl.sum(q, axis=0)
    for s in tl.static_range(S):
        view = tl.full([], s, tl.int64)
        if s < FIRST:
            slope = tl.zeros([BLOCK], dtype=tl.float32)
        else:
            row = student + view * student_view + b * student_row
            y = tl.load(row + k, mask=inside, other=float("-inf")).to(tl.float32)
            norms = student_norms + view * batch + b
            p = tl.exp2(y * student_scale - tl.load(norms))
            weight_s = factor / tl.load(norms + tl.full([], S, tl.int64) * batch)
            if s < T:
                slope = p * ((T - 1) * weight_s) - tl.sum(tl.where((t != s)[:, None], q, 0), axis=0)
            else:
                slope = p * (T * weight_s) - all_q
        at = gradient + (view * batch + b) * prototypes + k
        tl.store(at, slope.to(gradient.dtype.element_ty), mask=inside)
