"""train.py from the command line: the run folder, two ranks, kill and resume, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

import skill_fast
from skill_fast.evaluate import command, embed
from skill_fast.methods import METHODS
from skill_fast.presets import PRESETS
from skill_fast.report import page
from skill_fast.train import main
from tests.conftest import ROOT, metrics

EXACT = ("step", "epoch", "loss", "teacher_entropy", "kl", "grad_norm", "lr", "weight_decay", "ema_momentum")


def course(run: Path) -> list[tuple]:
    """What a resumed run must repeat to the last bit."""
    return [tuple(row[name] for name in EXACT) for row in metrics(run)]


def wait_for_step(run: Path, step: int, process) -> None:
    """Until metrics.jsonl has that step."""
    for _ in range(3600):
        if (run / "metrics.jsonl").is_file() and len((run / "metrics.jsonl").read_text().splitlines()) >= step:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached in three minutes")


@pytest.fixture(scope="module")
def unbroken(trainer, tmp_path_factory) -> Path:
    """A run of 14 steps over more than one epoch, with a checkpoint every 4."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    trainer.run(out, "--steps", "14", "--checkpoint-every", "4")
    return out


def test_the_run_folder_holds_what_is_promised(unbroken, drawn):
    held = {path.name for path in unbroken.iterdir()}
    assert held >= {"config.yaml", "metrics.jsonl", "checkpoints", "teacher.safetensors", "model.json", "exit.json"}
    assert json.loads((unbroken / "exit.json").read_text()) == {"exit_code": 0, "reason": "done", "step": 14}
    config = yaml.safe_load((unbroken / "config.yaml").read_text())
    assert config["data"] == str(drawn) and config["backbone"]["embed_dim"] == 24
    assert config["ds_config"]["zero_optimization"]["stage"] == 2
    assert [row["step"] for row in metrics(unbroken)] == list(range(1, 15))
    assert (unbroken / "checkpoints" / "newest").read_text().strip() == "step-000014"
    assert list((unbroken / "tensorboard").iterdir())


def test_the_commands_take_the_run(unbroken, drawn, tmp_path):
    encoder = skill_fast.load_encoder(unbroken)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 24)
    out = [str(tmp_path / name) for name in ("embeddings.parquet", "scores.json", "page.html")]
    assert embed.main([str(unbroken), "--data", str(drawn), "--out", out[0]]) == 0
    assert command.main([str(unbroken), "--tasks", "knn,color,retrieval", "--json", out[1]]) == 0
    assert page.main([str(unbroken), "--out", out[2]]) == 0
    rows = json.loads(Path(out[1]).read_text())["rows"]
    assert list(rows) == ["trained", "untrained", "raw pixels", "grey pixels", "colour histogram"]


def test_killed_and_started_again_it_ends_bit_for_bit_the_same(trainer, unbroken, tmp_path):
    """Twice: a step after the first checkpoint, and, gone on from there, in the second epoch."""
    options = ("--steps", "14", "--checkpoint-every", "4")
    for at_step in (5, 11):
        process = trainer.start(tmp_path / "run", *options)
        wait_for_step(tmp_path / "run", at_step, process)
        process.kill()
        process.communicate()
    trainer.run(tmp_path / "run", *options)
    assert course(tmp_path / "run") == course(unbroken)
    weights = [(run / "teacher.safetensors").read_bytes() for run in (tmp_path / "run", unbroken)]
    assert weights[0] == weights[1]


def test_asked_to_stop_it_saves_and_says_7_and_goes_on(trainer, unbroken, tmp_path):
    options = ("--steps", "14", "--checkpoint-every", "100")
    process = trainer.start(tmp_path / "run", *options)
    wait_for_step(tmp_path / "run", 3, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7, output
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["exit_code"] == 7
    done = len(metrics(tmp_path / "run"))
    assert f"steps {done} to 14" in trainer.run(tmp_path / "run", *options)
    assert course(tmp_path / "run") == course(unbroken)


def test_two_ranks_train_as_one(trainer, tmp_path):
    """The same global batches: losses of 10 steps within 1e-3 in fp32; sums over ranks round in another order."""
    options = ("--steps", "10", "--checkpoint-every", "100")
    one = trainer.run(tmp_path / "one", *options, ds_config="zero2_fp32")
    two = trainer.run(tmp_path / "two", *options, ds_config="zero2_fp32", ranks=2)
    assert "1 x cpu" in one and "2 x cpu" in two
    for ours, theirs in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-3)
    weights = [skill_fast.load_encoder(tmp_path / name).backbone.state_dict() for name in ("one", "two")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-3)


def test_a_checkpoint_of_another_configuration_is_refused(trainer, unbroken):
    said = (unbroken / "exit.json").read_text()
    output = trainer.run(unbroken, "--steps", "14", "--checkpoint-every", "4", "--optimizer.lr", "0.5", code=2)
    assert (unbroken / "exit.json").read_text() == said, "a refused start has no say about the finished run"
    assert "optimizer.lr" in output and "0.5" in output and "belongs to another run" in output


def test_a_refused_fresh_start_throws_nothing_away(trainer, unbroken):
    before = sorted(path.name for path in unbroken.rglob("*"))
    trainer.run(unbroken, "--fresh", "--loader.recipes", "bogus", code=2)
    assert sorted(path.name for path in unbroken.rglob("*")) == before


def test_steps_that_stay_non_finite_end_the_run_with_5_and_name_their_products(trainer, unbroken, tmp_path):
    """A learning rate that throws the weights away: three steps in a row, and the last good checkpoint stays."""
    out = Path(shutil.copytree(unbroken, tmp_path / "run"))
    said = trainer.run(out, "--steps", "40", "--optimizer.lr", "1e30", "--allow_change", code=5)
    assert "3 steps in a row" in said and "--optimizer.lr" in said
    assert json.loads((out / "exit.json").read_text())["exit_code"] == 5
    lines = [json.loads(line) for line in (out / "not_finite.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(product.startswith("design-") for line in lines for product in line["products"])
    assert (out / "checkpoints" / "newest").read_text().strip() == "step-000014"


def test_a_lost_rank_is_named(trainer, tmp_path):
    """Rank 1 is killed; the launcher takes rank 0's word, which is exit code 8, or ends it first."""
    out = tmp_path / "run"
    process = trainer.start(out, "--steps", "100000", "--checkpoint-every", "100000", ranks=2)
    wait_for_step(out, 3, process)
    children = subprocess.run(["pgrep", "-f", f"local_rank=1.*{out}"], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert json.loads((out / "exit.json").read_text())["exit_code"] == 8, output
    assert "another rank died" in output


ZERO2 = ["--ds_config", str(ROOT / "ds_configs" / "zero2.json")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--preset", "demmo"], 2, "preset 'demmo' is not known"),
        ([*ZERO2, "--data", "/nowhere"], 3, "/nowhere"),
        ([*ZERO2, "--backbone.name", "resnet50"], 2, "which is no vision transformer"),
        ([*ZERO2, "--backbone.image-size", "50"], 2, "global crops of 50 pixels"),
        ([*ZERO2, "--views.local-size", "20"], 2, "local crops of 20 pixels"),
        ([*ZERO2, "--steps", "-1"], 2, "--steps"),
        (["--ds_config", "/nowhere.json"], 2, "can not be read"),
    ],
)
def test_what_can_not_be_is_refused_with_its_remedy(arguments, code, said, drawn, tmp_path, capsys):
    data = [] if "--data" in arguments else ["--data", str(drawn)]
    assert main([*arguments, *data, "--out", str(tmp_path / "run")]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ") and said in told
    assert "allowed:" in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": {"type": "AdamW"}}, "optimizer"),
        ({"gradient_clipping": "auto"}, '"gradient_clipping" is "auto"'),
        ({"zero_optimization": {"stage": 3}}, "stage 3"),
    ],
)
def test_a_ds_config_that_owns_too_much_is_refused(change, said, drawn, tmp_path, capsys):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(json.loads((ROOT / "ds_configs" / "zero2.json").read_text()) | change))
    assert main(["--ds_config", str(path), "--data", str(drawn), "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_is_named(drawn, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*ZERO2, "--data", str(drawn), "--views.locall-crops", "3"])
    assert stopped.value.code == 2
    assert "locall-crops" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_left_alone(drawn, tmp_path, capsys):
    (tmp_path / "letters.txt").write_text("mine")
    assert main([*ZERO2, "--data", str(drawn), "--out", str(tmp_path), "--fresh"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert (tmp_path / "letters.txt").read_text() == "mine"


def test_presets_are_written_down():
    """A preset that changes is a change that users notice: name it in the CHANGELOG and here."""
    demos = {f"{method}_demo" for method in METHODS}
    baselines = {
        "dino_vit_small",
        "byol_resnet50",
        "simclr_resnet50",
        "mocov2_vit_small",
        "simsiam_vit_small",
        "pbcnet_resnet50",
        "triplet_resnet50",
    }
    ablations = {
        "skill_vit_small_no_local_augmentation",
        "skill_vit_small_weak_color",
        "skill_vit_small_single_photograph",
        "skill_vit_small_cross_resolution",
    }
    sizes = {"demo", "skill_vit_small", "skill_vit_base", "skill_vit_small_color_agnostic", "skill_vit_small_short"}
    assert set(PRESETS) == sizes | demos | baselines | ablations
    paper = PRESETS["skill_vit_small"]
    assert (paper.head.prototypes, paper.views.local_crops, paper.views.local_size) == (65536, 8, 96)
    assert (paper.backbone.name, paper.backbone.image_size, paper.backbone.drop_path) == (
        "vit_small_patch16_224",
        224,
        0.1,
    )
    assert PRESETS["demo"].views.local_crops == 2
