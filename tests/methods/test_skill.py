"""SkiLL's views, its loss on real networks, and when the center moves."""

from __future__ import annotations

import pytest
import torch

from skill_fast.errors import BadUsage
from skill_fast.kernels import distillation_loss, sinkhorn
from skill_fast.methods.skill import Skill, SkillConfig, ViewsConfig
from skill_fast.models.heads import HeadConfig
from skill_fast.models.vit import BackboneConfig

BACKBONE = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=24, depth=1, num_heads=2, drop_path=0.1)
HEAD = HeadConfig(prototypes=17, hidden=16, bottleneck=8)


def method(local_crops: int = 2, local_size: int = 16, **changes) -> Skill:
    views = ViewsConfig(local_crops=local_crops, local_size=local_size, **changes)
    return Skill(SkillConfig(), BACKBONE, HEAD, views, seed=0)


def crops(batch: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "global": torch.randn(2, batch, 3, 32, 32, generator=generator),
        "local": torch.randn(2, batch, 3, 16, 16, generator=generator),
    }


def test_views_are_those_of_the_paper():
    """Globals from two photographs, every local from the first (METHOD section 1)."""
    globals_, locals_ = method(local_crops=5).views()
    assert (globals_.name, globals_.photographs, globals_.size) == ("global", (0, 1), 32)
    assert (locals_.name, locals_.photographs, locals_.size) == ("local", (0,) * 5, 16)
    assert [group.name for group in method(local_crops=0).views()] == ["global"]
    assert method(photographs="one").views()[0].photographs == (0, 0)


def test_the_teacher_starts_as_the_student_without_gradient_and_drop_path():
    skill = method()
    for (name, ours), (other, theirs) in zip(skill.student.named_parameters(), skill.teacher.named_parameters()):
        assert name == other and torch.equal(ours, theirs) and not theirs.requires_grad
    skill.teacher.train()
    images = crops()["global"]
    assert torch.equal(skill.teacher(images), skill.teacher(images))


def test_the_loss_is_the_definition_on_the_networks_outputs():
    skill, given = method(), crops()
    skill.student.eval()
    skill.center = torch.linspace(-0.1, 0.1, 17)
    loss, logged = skill.loss(skill.student, given, teacher_temp=0.04)
    student, teacher = skill.student(given["global"], given["local"]), skill.teacher(given["global"])
    terms = [
        -(torch.softmax((teacher[t, b] - skill.center) / 0.04, 0) * torch.log_softmax(student[s, b] / 0.1, 0)).sum()
        for t in range(2)
        for s in range(4)
        if s != t
        for b in range(3)
    ]
    assert len(terms) == (2 * (2 + 2) - 2) * 3
    torch.testing.assert_close(loss, sum(terms) / len(terms), rtol=1e-5, atol=1e-6)
    assert set(logged) == {"loss", "teacher_entropy", "kl", "center_norm"}
    assert float(logged["center_norm"]) == pytest.approx(float(skill.center.norm()))
    loss.backward()
    assert all(weight.grad is None for weight in skill.teacher.parameters())
    assert skill.student.head.last_layer.weight.grad.abs().sum() > 0


def test_sinkhorn_spreads_the_teacher_over_all_prototypes():
    """Three iterations over this step's rows: each prototype's share of the targets is nearly the same."""
    plain = method()
    even = Skill(SkillConfig(centering="sinkhorn"), BACKBONE, HEAD, ViewsConfig(local_crops=2, local_size=16), seed=0)
    given = crops(batch=8)
    for skill in (plain, even):
        skill.student.eval()
    (moving, _), (loss, _) = (skill.loss(skill.student, given, 0.04) for skill in (plain, even))
    rows = even.teacher(given["global"])
    even.center = sinkhorn(rows, 0.04)
    by_center = distillation_loss(even.student(given["global"], given["local"]), rows, even.center, 0.1, 0.04).loss
    torch.testing.assert_close(loss, by_center)
    assert abs(loss.item() - moving.item()) > 1e-3
    shares = torch.softmax((rows - even.center) / 0.04, -1).mean((0, 1)) * 17
    assert shares.min() > 0.5 and shares.max() < 2


def test_the_center_moves_after_the_step_over_all_its_micro_batches():
    skill = method()
    start = skill.center
    rows = []
    for seed in (0, 1):
        skill.loss(skill.student, crops(seed=seed), 0.04)
        rows += list(skill.teacher(crops(seed=seed)["global"]).flatten(0, 1))
        assert skill.center is start, "the center of this step must not move before it is over"
    skill.reduce()
    skill.commit(torch.tensor(True))
    torch.testing.assert_close(skill.center, 0.1 * sum(rows) / len(rows), rtol=1e-5, atol=1e-7)


def test_a_step_that_was_not_applied_leaves_the_center_and_is_forgotten():
    skill, twin = method(), method()
    skill.loss(skill.student, {k: v * torch.nan for k, v in crops().items()}, 0.04)
    skill.commit(torch.tensor(False))
    assert not skill.center.any()
    for one in (skill, twin):
        one.loss(one.student, crops(seed=2), 0.04)
        one.commit(torch.tensor(True))
    assert torch.equal(skill.center, twin.center)


def test_state_goes_there_and_back():
    skill, twin = method(), method()
    skill.loss(skill.student, crops(), 0.04)
    skill.commit(torch.tensor(True))
    twin.load_state_dict(skill.state_dict())
    assert torch.equal(skill.center, twin.center) and skill.center.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: method(local_size=20), "local crops of 20 pixels"),
        (lambda: method(local_crops=-1), "-1 local crops"),
        (
            lambda: Skill(SkillConfig("cross_resolution"), BACKBONE, HEAD, ViewsConfig(local_crops=0), seed=0),
            "cross_resolution",
        ),
    ],
)
def test_views_that_can_not_be_are_refused(build, message):
    with pytest.raises(BadUsage, match=message):
        build()
