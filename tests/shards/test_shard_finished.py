"""A build over a finished data set: the same command has nothing to do, another is refused."""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from shards.append import append
from shards.build import build
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.output import LocalOutput
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents
from tests.shards.interruption import ONE_EACH, Stop, interrupted, throw, written


def test_a_build_that_was_killed_while_tidying_up_is_done(singles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stop):
        patched.setattr("shards.output.LocalOutput.remove_journal", lambda output: throw(Stop()))
        build(singles, out, shard_mib=ONE_EACH, workers=0)
    before = contents(out)
    with pytest.raises(BadUsage, match="finished data set"):
        build(singles, out, shard_mib=ONE_EACH, workers=0, max_side=99)
    assert contents(out) == before
    assert build(singles, out, shard_mib=ONE_EACH, workers=0) == read_dataset(out)
    assert contents(out) == before and not (out / ".build").exists()


def test_the_same_command_on_a_finished_data_set_does_nothing(singles: Path, tmp_path: Path) -> None:
    """Whatever the workers; foreign files beside it are none of its business, and nothing is written again."""
    out = tmp_path / "out"
    dataset = build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / "notes.txt").write_text("mine")
    before = {path.name: written(path) for path in out.iterdir()}
    for workers in (0, 2):
        assert build(singles, out, shard_mib=ONE_EACH, workers=workers) == dataset
    assert {path.name: written(path) for path in out.iterdir()} == before


def test_overwrite_that_is_ended_behind_the_old_data_set_leaves_no_append_of_it(
    singles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same command would be refused, for a folder that is none of a build's."""
    out = tmp_path / "out"
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / ".append" / "build").mkdir(parents=True)
    (out / ".append" / "request.json").write_text("{}")
    remove = LocalOutput.remove

    def stop(output: LocalOutput, names: Iterable[str]) -> None:
        remove(output, names)
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr("shards.output.LocalOutput.remove", stop)
        patch.setattr("shards.build._without_trace_of_nothing", lambda output: contextlib.nullcontext())
        build(singles, out, shard_mib=ONE_EACH, workers=0, overwrite=True)
    assert not (out / "dataset.json").exists() and (out / "shard-000000.tar").exists()
    assert not (out / ".append").exists()


def test_a_finished_data_set_of_an_interrupted_build_knows_itself_too(singles: Path, tmp_path: Path) -> None:
    """The digest of the catalogue goes on over what was taken over."""
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    photograph(singles / "p3" / "0.png", 60, 60, seed=77)
    dataset = build(singles, out, shard_mib=ONE_EACH, workers=0)
    assert build(singles, out, shard_mib=ONE_EACH, workers=0) == dataset


@pytest.mark.parametrize("change", ["photograph", "product", "options", "source", "appended", "unknown"])
def test_another_command_or_catalogue_is_refused_by_a_finished_data_set(
    singles: Path, tmp_path: Path, change: str
) -> None:
    out, source, options = tmp_path / "out", singles, {"shard_mib": ONE_EACH, "workers": 0}
    build(source, out, **options)
    said = {
        "photograph": "the catalogue has changed since",
        "product": "the catalogue has changed since",
        "options": "a finished data set: max_side was 512, is 48",
        "source": "a finished data set: source was '.*c', is '.*other'",
        "appended": "a finished data set that was appended to",
        "unknown": "holds a finished data set",
    }[change]
    if change == "photograph":
        photograph(source / "p3" / "0.png", 60, 60, seed=77)
    elif change == "product":
        shutil.rmtree(source / "p8")
    elif change == "options":
        options |= {"max_side": 48}
    elif change == "source":
        source = Path(shutil.copytree(source, tmp_path / "other"))
    elif change == "appended":
        photograph(tmp_path / "more" / "q" / "0.png", 60, 60, seed=50)
        append(tmp_path / "more", out, workers=0)
    else:
        (out / ".built.json").write_bytes(b"[" * 100_000)
    before = contents(out)
    with pytest.raises(BadUsage, match=said):
        build(source, out, **options)
    assert contents(out) == before and not (out / ".build").exists()


def test_a_finished_data_set_that_lacks_a_file_is_not_called_done(singles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / "shard-000004.tar").unlink()
    with pytest.raises(BadData, match=r"shard-000004\.tar: file: expected .* found nothing"):
        build(singles, out, shard_mib=ONE_EACH, workers=0)
