"""skill-embed in parts: by any number of ranks, killed and started again, the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skill_fast.errors import BadUsage
from skill_fast.evaluate.embed import main
from skill_fast.evaluate.embedding_files import whole_products
from skill_fast.evaluate.parts import Parts
from skill_fast.models.encoder import save_encoder
from skill_fast.models.vit import build_backbone
from tests.engine.launch import ROOT, environment, free_port
from tests.evaluate.conftest import TINY

BATCHES = ("--batch-size", "8", "--part", "30", "--device", "cpu")  # parts of 32: 265 photographs are 9 parts


class Starter:
    """Starts skill-embed on the drawn data set, as a process a rank."""

    def __init__(self, process, run, demo):
        self.process, self.common = process, [str(run), "--data", str(demo), *BATCHES]

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, out, *, seconds=0.0, rank=0, ranks=1, port=0):
        """The pid of one rank; what it prints goes to a file beside ``out``'s folder."""
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        request = {
            "arguments": [*self.common, "--out", str(out)],
            "seconds": seconds,
            "output": self.said_at(out, rank),
        }
        return self.ask(request | {"env": {name: str(value) for name, value in world.items()}})

    def said_at(self, out, rank):
        return f"{out.parent}.rank-{rank}.txt"

    def end(self, pid, out, rank=0):
        """(exit code, what it printed) of a rank, after waiting for it."""
        return self.ask({"wait": pid}), Path(self.said_at(out, rank)).read_text()

    def run(self, out):
        """What a whole run on one rank printed."""
        code, said = self.end(self.start(out), out)
        assert code == 0, said
        return said


@pytest.fixture(scope="module")
def starter(run, demo):
    worker = str(Path(__file__).with_name("embed_worker.py"))
    with subprocess.Popen(
        [sys.executable, worker], env=environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Starter(process, run, demo)
        process.stdin.close()


def both_files(out):
    return out.read_bytes(), out.with_name(out.name.replace(".parquet", ".products.parquet")).read_bytes()


def until(seen):
    """Wait for it, half a minute at most."""
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, starter):
    """The bytes of an undisturbed run on one rank."""
    out = tmp_path_factory.mktemp("whole") / "v.parquet"
    said = starter.run(out)
    assert "265 photographs, 24 values each, pooling class" in said and "photographs/s" in said
    return both_files(out)


def test_two_ranks_write_the_same_bytes(tmp_path, starter, whole):
    out, port = tmp_path / "v.parquet", free_port()
    pids = [starter.start(out, rank=rank, ranks=2, port=port) for rank in (0, 1)]
    (code, said), (other_code, other_said) = (starter.end(pid, out, rank) for rank, pid in enumerate(pids))
    assert (code, other_code) == (0, 0), said + other_said
    assert "2 ranks" in said and "photographs" not in other_said
    assert both_files(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.parquet", "v.products.parquet"]


def test_killed_it_goes_on_and_ends_with_the_same_bytes(tmp_path, starter, whole):
    out, parts = tmp_path / "v.parquet", tmp_path / "v.parquet.parts"
    pid = starter.start(out, seconds=0.1)
    until(lambda: len(list(parts.glob("*.npy"))) >= 3)
    os.kill(pid, signal.SIGKILL)
    assert starter.end(pid, out)[0] == -signal.SIGKILL
    made = len(list(parts.glob("*.npy")))
    assert 3 <= made < 9 and not out.exists()
    (parts / "part-000001.npy").write_bytes((parts / "part-000001.npy").read_bytes()[:-4])  # and one is damaged
    said = starter.run(out)
    assert f"going on: {made - 1} of 9 parts" in said
    assert f"{265 - 32 * (made - 1)} of 265 photographs" in said
    assert both_files(out) == whole
    assert not parts.exists()


def test_a_rank_that_dies_is_named_and_the_rest_goes_on_from_its_parts(tmp_path, starter, whole):
    out, port = tmp_path / "v.parquet", free_port()
    pids = [starter.start(out, rank=rank, ranks=2, port=port, seconds=float(rank)) for rank in (0, 1)]
    until(lambda: len(list(tmp_path.glob("v.parquet.parts/*.npy"))) >= 5)  # all of rank 0's
    os.kill(pids[1], signal.SIGKILL)
    assert starter.end(pids[1], out, 1)[0] == -signal.SIGKILL
    code, said = starter.end(pids[0], out)
    assert code == 8 and "another rank died" in said, said
    assert "going on: 5 of 9" in starter.run(out)
    assert both_files(out) == whole


@pytest.mark.parametrize("change", ["pooling", "weights", "data"])
def test_another_request_starts_over_and_says_so(tmp_path, run, demo, capsys, monkeypatch, change):
    out, other = tmp_path / "v.parquet", tmp_path / "other"
    other.mkdir()
    shutil.copy(run / "model.json", other)
    save_encoder(
        other, build_backbone(TINY, drop_path=0.0, seed=98).state_dict(), json.loads((run / "model.json").read_text())
    )
    command = [str(run), "--data", str(demo), "--out", str(out), *BATCHES]
    with monkeypatch.context() as patch:
        patch.setattr("skill_fast.evaluate.embed.write_embeddings", lambda *_: out)
        patch.setattr(Parts, "remove", lambda self: None)
        assert main([*command, "--split", "test"] if change == "data" else command) == 0
    capsys.readouterr()
    again = {"pooling": [*command, "--pooling", "patch_mean"], "weights": [str(other), *command[1:]], "data": command}
    assert main(again[change]) == 0
    said = capsys.readouterr().out
    found = re.search(r"starting over: '.*' holds parts of another request \((\w+) '(\w+)', now '(\w+)'\)", said)
    assert found, said
    assert found[1] == {"pooling": "pooling", "weights": "weights", "data": "split"}[change]
    assert "265 photographs" in said
    metadata = pq.read_schema(out).metadata
    assert metadata[b"pooling"] == (b"patch_mean" if change == "pooling" else b"class")


def test_a_foreign_folder_is_left_alone(tmp_path, run, demo, capsys):
    (tmp_path / "v.parquet.parts").mkdir()
    (tmp_path / "v.parquet.parts" / "thesis.tex").write_text("years of work")
    assert main([str(run), "--data", str(demo), "--out", str(tmp_path / "v.parquet"), *BATCHES]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert (tmp_path / "v.parquet.parts" / "thesis.tex").read_text() == "years of work"


def test_a_rank_without_the_shared_folder_is_refused(tmp_path):
    parts = Parts(tmp_path / "parts", {"run": "a"}, photographs=10, size=4, width=2)
    with pytest.raises(BadUsage, match="does not see rank 0's parts"):
        parts.check()
    assert parts.open() == "" and parts.count == 3
    parts.check()
    with pytest.raises(BadUsage, match="other weights"):
        Parts(tmp_path / "parts", {"run": "b"}, photographs=10, size=4, width=2).check()


def test_parts_that_are_not_whole_are_missing(tmp_path):
    parts = Parts(tmp_path / "parts", {}, photographs=10, size=4, width=2)
    parts.open()
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    for part in range(3):
        parts.write(part, vectors[parts.rows(part)])
    assert parts.missing() == []
    np.testing.assert_array_equal(np.concatenate([parts.read(part) for part in range(3)]), vectors)
    (tmp_path / "parts" / "part-000000.npy").write_bytes(b"")
    np.save(tmp_path / "parts" / "part-000001.npy", vectors[:3])
    np.save(tmp_path / "parts" / "part-000002.npy", vectors[8:].astype(np.float64))
    assert parts.missing() == [0, 1, 2]


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4], [2, 5], [5, 2], [6, 1]])
def test_chunks_are_cut_between_products(sizes):
    products = np.array([2, 2, 2, 5, 5, 7, 9])
    rows = np.arange(7, dtype=np.float32)[:, None]
    chunks = np.split(rows, np.cumsum(sizes)[:-1])
    got = list(whole_products(chunks, products))
    np.testing.assert_array_equal(np.concatenate([vectors for vectors, _ in got]), rows)
    np.testing.assert_array_equal(np.concatenate([of for _, of in got]), products)
    seen = [set(of.tolist()) for _, of in got]
    assert sum(len(each) for each in seen) == 4, "each product in one piece"


@pytest.mark.parametrize("pooling", ["last4", "patch_mean"])
def test_a_pooling_that_the_backbone_lacks(tmp_path, run, demo, capsys, pooling):
    """The fixture's transformer has two blocks."""
    code = main([str(run), "--data", str(demo), "--out", str(tmp_path / "v.parquet"), "--pooling", pooling, *BATCHES])
    assert code == (2 if pooling == "last4" else 0)
    assert ("2 blocks" in capsys.readouterr().err) == (pooling == "last4")


def test_a_pooling_that_is_none(tmp_path, run, demo, capsys):
    assert main([str(run), "--data", str(demo), "--out", str(tmp_path / "v.parquet"), "--pooling", "max"]) == 2
    assert "class, last4, patch_mean" in capsys.readouterr().err
