"""Every method but skill: its views, its loss against loops over the networks' outputs, its state, its teacher."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from skill_fast.errors import BadUsage
from skill_fast.methods import METHODS
from skill_fast.methods.pbcnet import PARTS
from skill_fast.models.queue import MemoryQueue
from tests.losses.test_contrastive import cosine, info_nce_in_loops, nt_xent_in_loops
from tests.losses.test_triplet import loss_in_loops
from tests.methods.small import CNN, VIT, build, crops, labels

OTHERS = [name for name in METHODS if name != "skill"]
WITH_STATE = ("dino", "mocov2", "pbcnet")


def cosines(predictions: Tensor, targets: Tensor) -> Tensor:
    return sum(cosine(p, z) for p, z in zip(predictions, targets)) / len(predictions)


def loss_of_dino(method, given: dict[str, Tensor]) -> Tensor:
    student, teacher = method.student(given["global"], given["local"]), method.teacher(given["global"])
    terms = [
        -(torch.softmax((teacher[t, b] - method.center) / 0.04, 0) * torch.log_softmax(student[s, b] / 0.1, 0)).sum()
        for t in range(2)
        for s in range(4)
        if s != t
        for b in range(student.shape[1])
    ]
    return sum(terms) / len(terms)


def loss_of_byol(method, given: dict[str, Tensor]) -> Tensor:
    first, second = given["global"]
    terms = []
    for seen, other in ((first, second), (second, first)):
        student, teacher = method.student, method.teacher
        prediction = student.predictor(student.projector(student.backbone(seen)))
        terms.append(2 - 2 * cosines(prediction, teacher.projector(teacher.backbone(other)).detach()))
    return sum(terms) / 2


def loss_of_simclr(method, given: dict[str, Tensor]) -> Tensor:
    first, second = (method.student.projector(method.student.backbone(view)) for view in given["global"])
    return nt_xent_in_loops(first, second, 0.1)


def loss_of_mocov2(method, given: dict[str, Tensor]) -> Tensor:
    queries = method.student.projector(method.student.backbone(given["global"][0]))
    keys = method.teacher.projector(method.teacher.backbone(given["global"][1])).detach()
    return info_nce_in_loops(queries, keys, method.queue.rows.double(), 0.2)


def loss_of_simsiam(method, given: dict[str, Tensor]) -> Tensor:
    z = [method.student.projector(method.student.backbone(view)) for view in given["global"]]
    p = [method.student.predictor(view) for view in z]
    return -(cosines(p[0], z[1].detach()) + cosines(p[1], z[0].detach())) / 2


def loss_of_pbcnet(method, given: dict[str, Tensor]) -> Tensor:
    features = [
        [network.backbone(view) for view in half]
        for network, half in zip((method.student, method.teacher), given["parts"].chunk(2))
    ]
    queries, keys = (
        [network.projector(f) for f in (sum(parts) / len(PARTS), *parts)]
        for network, parts in zip((method.student, method.teacher), features)
    )
    queue = method.queue.rows.double()
    terms = [info_nce_in_loops(q, k.detach(), queue[:, i], 0.2) for i, (q, k) in enumerate(zip(queries, keys))]
    return terms[0] + sum(terms[1:]) / len(PARTS)


def loss_of_triplet(method, given: dict[str, Tensor]) -> Tensor:
    return loss_in_loops(method.student.backbone(given["global"][0]), labels()["group"])


ORACLES = {name: globals()[f"loss_of_{name}"] for name in OTHERS}


@pytest.mark.parametrize("name", OTHERS)
def test_loss_and_gradient_are_the_definition(name):
    """In float64, batch norms on the batch's own statistics, the student's gradient included."""
    method, twin = build(name, double=True), build(name, double=True)
    given = crops(method, dtype=torch.float64)
    loss, logged = method.loss(method.student, given, 0.04, labels())
    expected = ORACLES[name](twin, given)
    # The distillation kernel works in float32 whatever comes in.
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if name == "dino" else {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(loss, expected, check_dtype=False, **tolerance)
    loss.backward()
    expected.backward()
    moved = 0.0
    for (key, ours), theirs in zip(method.student.named_parameters(), twin.student.parameters()):
        assert ours.grad is not None, key
        torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)
        moved += float(ours.grad.abs().sum())
    assert moved > 0
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(tensor.numel() == 1 and not tensor.requires_grad for tensor in logged.values())


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "triplet"])
def test_a_cnn_is_a_backbone_too(name):
    method = build(name, CNN)
    loss, _ = method.loss(method.student, crops(method), 0.04, labels())
    loss.backward()
    assert loss.isfinite() and all(weight.grad is not None for weight in method.student.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_module_that_follows_has_the_same_tree(name):
    """The contract of ``ShardedTeacher``: the same names and shapes, equal weights at the start."""
    from skill_fast.data.views import ViewsConfig
    from tests.methods.small import CONFIGS, HEAD

    method = METHODS[name](CONFIGS[name], VIT, HEAD, ViewsConfig(local_crops=2, local_size=16), seed=3)
    for (key, ours), (other, theirs) in zip(method.student.state_dict().items(), method.teacher.state_dict().items()):
        assert key == other and torch.equal(ours, theirs)
    assert not any(weight.requires_grad for weight in method.teacher.parameters())
    assert method.student.backbone is not method.teacher.backbone


@pytest.mark.parametrize("name", WITH_STATE)
def test_state_moves_after_a_finite_step_only(name):
    method = build(name)
    before = copy.deepcopy(method.state_dict())
    spoilt = {key: value * torch.nan for key, value in crops(method).items()}
    method.loss(method.student, spoilt, 0.04, labels())
    method.reduce()
    method.commit(torch.tensor(False))
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    method.loss(method.student, crops(method), 0.04, labels())
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    method.reduce()
    method.commit(torch.tensor(True))
    assert any(not torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(value.isfinite().all() for value in method.state_dict().values())
    twin = build(name)
    twin.load_state_dict(method.state_dict())
    assert all(torch.equal(twin.state_dict()[key], value) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", ["skill", "dino"])
def test_an_infinite_logit_of_the_teacher_does_not_stay_in_the_center(name):
    """It need not reach the loss, so the step may be applied: the center stays, and moves with the next step."""
    method = build(name)
    for logit, moves in ((-torch.inf, False), (0.0, True)):
        before = method.center.clone()
        method.loss(method.student, crops(method), 0.04, labels())
        method._teacher_sum[0] += logit
        method.commit(torch.tensor(True))
        assert method.center.isfinite().all() and torch.equal(method.center, before) != moves


def test_keys_of_all_micro_batches_enter_the_queue_in_order():
    method = build("mocov2")
    keys = []
    for seed in (0, 1):
        given = crops(method, seed=seed)
        method.loss(method.student, given, 0.04)
        with torch.no_grad():
            rows = method.teacher.project(given["global"][1:])[0]
        keys.append(rows / rows.norm(dim=1, keepdim=True))
    start = method.queue.rows.clone()
    method.reduce()
    method.commit(torch.tensor(True))
    torch.testing.assert_close(method.queue.rows[:12], torch.cat(keys))
    assert torch.equal(method.queue.rows[12:], start[12:]) and int(method.queue.next) == 12


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [7, 7], [5, 2, 7, 1]])
def test_the_queue_is_first_in_first_out(sizes):
    """Against a plain list; 7 places, so that puts wrap around."""
    queue, kept, count = MemoryQueue(7, 2, seed=0), None, 0
    kept = [row.clone() for row in queue.rows]
    for n in sizes:
        keys = torch.arange(2.0 * n).reshape(n, 2) + 100 * count
        queue.put(keys, torch.tensor(True))
        for key in keys:
            kept[count % 7] = key
            count += 1
        queue.put(-keys, torch.tensor(False))
        assert torch.equal(queue.rows, torch.stack(kept)) and int(queue.next) == count % 7
    assert MemoryQueue(7, 2, seed=0).rows.norm(dim=1).allclose(torch.ones(7))


def test_what_a_queue_can_not_hold_is_refused():
    with pytest.raises(BadUsage, match="8 keys a step for a queue of 7"):
        MemoryQueue(7, 2, seed=0).put(torch.ones(8, 2), torch.tensor(True))
    with pytest.raises(BadUsage, match="a kept queue of"):
        MemoryQueue(7, 2, seed=0).load_state_dict(MemoryQueue(6, 2, seed=0).state_dict())
    with pytest.raises(BadUsage, match="a queue of 0 keys"):
        MemoryQueue(0, 2, seed=0)


def test_views_are_the_methods():
    assert [g.photographs for g in build("dino").views()] == [(0, 0), (0, 0)], "DINO shows one photograph"
    assert build("simclr").views()[0].photographs == (0, 1)
    assert [g.name for g in build("byol", second_blur_p=0.1).views()] == ["global", "global_2"]
    (parts,) = build("pbcnet").views()
    assert parts.photographs == (0,) * 6 + (1,) * 6 and parts.parts == PARTS * 2
    halves = [(0, 0, 0.55, 1), (0.45, 0, 1, 1), (0, 0, 1, 0.55), (0, 0.45, 1, 1)]  # top, bottom, left, right
    assert [*PARTS] == [(0, 0, 1, 1), *halves, (0.2, 0.2, 0.8, 0.8)] and parts.scale == (0.8, 1.0)
    assert build("triplet").views()[0].photographs == (0,)
    assert build("triplet").batches().products == 2 and build("simclr").batches() is None
    assert build("simsiam").constant_lr == ("predictor",)


def test_two_groups_of_global_crops_are_one_to_the_method():
    """The second crop in a group of its own (another augmentation) gives the loss of both in one."""
    plain, apart = build("byol"), build("byol", second_blur_p=0.1)
    given = crops(plain)
    split = {"global": given["global"][:1], "global_2": given["global"][1:]}
    assert torch.equal(plain.loss(plain.student, given, 0.04)[0], apart.loss(apart.student, split, 0.04)[0])


def test_negatives_of_triplets_are_of_the_anchors_type():
    """Groups of one type each leave no triplet; the same groups of one type do."""
    method = build("triplet")
    given = crops(method)
    n = given["global"].shape[1]
    labels = {"group": torch.arange(n) // 2, "color": torch.arange(n) % 2}
    mined = {}
    for name, kind in (("apart", torch.arange(n) // 2), ("alike", torch.zeros(n, dtype=torch.int64))):
        loss, logged = method.loss(method.student, given, 0.04, labels | {"type": kind})
        mined[name] = float(logged["triplets"])
        assert (float(loss.detach()) == 0) == (name == "apart")
    assert mined["apart"] == 0 < mined["alike"]


def test_triplet_without_labels_says_so():
    method = build("triplet")
    with pytest.raises(ValueError, match="needs labels"):
        method.loss(method.student, crops(method), 0.04)
