import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from shards.build import Progress, build
from shards.engines import Outcome, Task, local, open_engine
from shards.engines import child as child_module
from shards.engines.child import Lost
from shards.engines.local import LocalEngine, chunk_of
from shards.errors import BadUsage, Failure, StorageFailure
from shards.normalize import Jpeg, Normalization
from shards.sources.demo import products
from shards.sources.drawing import Drawing
from tests.object_storage import ObjectStorage
from tests.shards.conftest import photograph
from tests.shards.hostile import StuckPath, hostile

OVER = ("undecodable", "the act is over")
"""What a hostile photograph becomes when it has done no harm."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task(photograph(tmp_path_factory.mktemp("engines") / "good.png"))


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    """One child with a time limit that a small photograph keeps on a busy machine."""
    with contextlib.closing(LocalEngine(Normalization(), workers=1, timeout_s=3)) as engine:
        yield engine


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return ["jpeg" if isinstance(outcome, Jpeg) else outcome[0] for outcome in outcomes]


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_outcomes_are_those_of_this_process_in_order_for_any_workers_and_chunks(tmp_path: Path) -> None:
    drawn = next(products(designs=1, photo_side=32)).photographs[0]
    assert isinstance(drawn, Drawing)
    files = [photograph(tmp_path / f"{number}.png", 20 + number, 30, seed=number) for number in range(37)]
    files[5].write_bytes(b"no image")
    files[6].unlink()
    tasks = [*map(Task, files), Task(drawn)]
    with contextlib.closing(open_engine("local", Normalization(), workers=0)) as engine:
        expected = engine.submit(tasks).result()
    assert kinds(expected) == ["jpeg"] * 5 + ["not_an_image", "missing_file"] + ["jpeg"] * 31
    with contextlib.closing(open_engine("local", Normalization(), workers=3)) as engine:
        for chunk in (1, 7, len(tasks)):
            futures = [engine.submit(tasks[start : start + chunk]) for start in range(0, len(tasks), chunk)]
            assert [outcome for future in futures for outcome in future.result()] == expected
        assert engine.submit([]).result() == []


@pytest.mark.parametrize(("place", "act", "code"), [(0, "crash", -signal.SIGSEGV), (4, "leave", 3)])
def test_a_child_that_dies_costs_its_photograph_alone(
    engine: LocalEngine, good: Task, place: int, act: str, code: int
) -> None:
    tasks = [good] * 5
    tasks[place] = hostile(act)
    outcomes = engine.submit(tasks).result()
    assert outcomes[place] == ("decoder_died", f"the process ended with code {code}")
    assert kinds(outcomes[:place] + outcomes[place + 1 :]) == ["jpeg"] * 4


def test_a_child_that_hangs_costs_its_photograph_alone(good: Task) -> None:
    with contextlib.closing(LocalEngine(Normalization(), workers=1, timeout_s=1)) as engine:
        outcomes = engine.submit([good, good, hostile("hang"), good]).result()
        assert outcomes[2] == ("decoder_timeout", "no answer within 1 s")
        assert kinds(outcomes) == ["jpeg", "jpeg", "decoder_timeout", "jpeg"]
        assert engine.lost == ["no answer within 1 s"] * 2


def test_a_child_that_hangs_once_costs_nothing(good: Task, tmp_path: Path) -> None:
    """Such as one that somebody stopped: what holds in a new child alone is the photograph's own."""
    with contextlib.closing(LocalEngine(Normalization(), workers=1, timeout_s=1)) as engine:
        outcomes = engine.submit([good, hostile("hang_once", tmp_path / "flag"), good]).result()
        assert kinds(outcomes) == ["jpeg", "undecodable", "jpeg"] and outcomes[1] == OVER
        assert engine.lost == ["no answer within 1 s"]


SUSPENDED = """
import sys
from shards.engines.local import LocalEngine
from shards.normalize import Normalization
from tests.shards.hostile import hostile
engine = LocalEngine(Normalization(), workers=1, timeout_s=2)
print(engine.submit([hostile("work", sys.argv[1])]).result(), engine.lost)
engine.close()
"""


def test_a_job_that_is_suspended_beyond_the_limit_loses_nothing(tmp_path: Path) -> None:
    """Not even a child: as a batch system or a container's pause does it, parent and children together."""
    command = [sys.executable, "-c", SUSPENDED, str(tmp_path / "pid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(_wait_for(tmp_path / "pid"))
        for pid in (parent.pid, child):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(parent.pid, signal.SIGCONT)
        time.sleep(0.3)  # the parent looks at what it has, and the child was not yet woken
        with contextlib.suppress(ProcessLookupError):  # a parent that took it for lost has killed it
            os.kill(child, signal.SIGCONT)
        assert parent.communicate(timeout=30)[0] == f"{[OVER]} []\n"


def test_a_file_that_can_not_be_read_in_time_ends_the_build_and_is_no_reject(good: Task) -> None:
    stuck = Task(StuckPath("/mnt/dead/p.jpg"))
    with contextlib.closing(LocalEngine(Normalization(), workers=1, timeout_s=0.2, reading_s=1)) as engine:
        with pytest.raises(
            StorageFailure, match=r"'/mnt/dead/p.jpg' could not be read: no answer within 1 s\n.*goes on"
        ):
            engine.submit([good, stuck, good]).result()
        assert kinds(engine.submit([good]).result()) == ["jpeg"]


def test_object_storage_that_hangs_ends_the_build_and_rejects_nothing(
    tmp_path: Path, s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit of the decoder is not that of the storage; the same command goes on when it answers again."""
    for number in range(12):
        photograph(s3.local(f"{s3.url}/c") / f"p{number:02d}" / "0.png", 60, 44, seed=number)
    build(f"{s3.url}/c", tmp_path / "whole", shard_mib=0.01, workers=0)
    monkeypatch.setitem(LocalEngine.__init__.__kwdefaults__, "timeout_s", 1)
    monkeypatch.setitem(LocalEngine.__init__.__kwdefaults__, "reading_s", 3)
    monkeypatch.setattr(local, "CHUNK", 2)
    with contextlib.ExitStack() as until_later:

        def freeze(done: Progress) -> None:
            if done.products == 4:
                until_later.enter_context(s3.stuck())

        with pytest.raises(StorageFailure, match=rf"'{s3.url}/c/p..*/0.png' could not be read: no answer within 3 s"):
            build(f"{s3.url}/c", tmp_path / "out", shard_mib=0.01, workers=1, progress=freeze)
    monkeypatch.setitem(LocalEngine.__init__.__kwdefaults__, "timeout_s", 60)
    resumed = build(f"{s3.url}/c", tmp_path / "out", shard_mib=0.01, workers=1)
    assert resumed["counts"]["images_written"] == 12 and resumed["counts"]["images_rejected"] == {}
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_closing_does_not_wait_for_a_child_that_the_kernel_holds(
    good: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a dead mount, where SIGKILL has to wait; simulated by one that is never sent."""
    monkeypatch.setattr(child_module, "CLOSE_S", 0.1)
    engine = LocalEngine(Normalization(), workers=1)
    future = engine.submit([hostile("hang", tmp_path / "pid")])
    pid = int(_wait_for(tmp_path / "pid"))
    (child,) = engine._children
    monkeypatch.setattr(child._process, "kill", lambda: None)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 5 and future.exception() is not None
    with contextlib.suppress(ProcessLookupError):  # it may have ended with the thread that had started it
        os.kill(pid, signal.SIGKILL)
    child._process.wait()


def test_the_cell_is_apart_from_closed_standard_streams(good: Task) -> None:
    """Of a caller that closed stderr, as `2>&-` does: the cell would get its number."""
    kept = os.dup(2)
    os.close(2)
    try:
        with contextlib.closing(LocalEngine(Normalization(), workers=1)) as engine:
            assert kinds(engine.submit([good]).result()) == ["jpeg"]
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@dataclass(eq=False)
class SimulatedChild:
    """A child whose photographs are the names of acts; ``mishaps`` says at which it is killed or stopped."""

    mishaps: Iterator[str]
    fresh: bool = True
    alive: bool = True
    spoilt: bool = False

    def ask(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        self.fresh = False
        held: list[Outcome] = []
        for place, task in enumerate(tasks):
            act = str(task.photograph)
            # A photograph that is itself the end of one child has no second mishap to spare.
            mishap = next(self.mishaps, "") if act != "crash_if_spoilt" else ""
            if mishap == "decoder_timeout" and act == "crash":
                mishap = ""  # one that both hangs and crashes is told to hang
            if mishap:
                raise Lost(mishap, "", place)
            if act == "crash" or (act == "crash_if_spoilt" and self.spoilt):
                raise Lost("decoder_died", "", place)
            if act == "hang":
                raise Lost("decoder_timeout", "", place)
            self.spoilt |= act == "spoil"
            hungry = act == "eat" or (act == "eat_if_spoilt" and self.spoilt)
            held.append(("out_of_memory" if hungry else act, ""))
            # Answers travel together; those not yet sent are lost with the child.
            if place % 3 == 2 or place == len(tasks) - 1:
                yield from held
                held.clear()

    def kill(self) -> None: ...

    def close(self) -> None: ...


ALONE = {"crash": "decoder_died", "hang": "decoder_timeout", "eat": "out_of_memory"}
"""What becomes of an act in a child of its own, where not its own name."""
ACTS = ("good", "spoil", "crash_if_spoilt", "eat_if_spoilt", *ALONE)


@given(
    chunks=st.lists(st.lists(st.sampled_from(ACTS), max_size=12), max_size=3),
    mishaps=st.lists(st.sampled_from(["", "decoder_died", "decoder_timeout"]), max_size=60),
)
@example(chunks=[["spoil", "eat_if_spoilt"]], mishaps=["", "decoder_died"])
@example(chunks=[["hang"], ["good"]], mishaps=["", "decoder_died", "decoder_timeout"])
def test_every_photograph_gets_the_outcome_that_it_has_alone(chunks: list[list[str]], mishaps: list[str]) -> None:
    """Whatever else is in its chunk, and though children are killed or stopped, but never two in a row."""
    spaced = iter([mishap for pair in zip(mishaps, [""] * len(mishaps)) for mishap in pair])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "Child", lambda *_, **limits: SimulatedChild(spaced))
        with contextlib.closing(LocalEngine(Normalization(), workers=1)) as engine:
            futures = [engine.submit([Task(Path(act)) for act in acts]) for acts in chunks]
            for acts, future in zip(chunks, futures):
                assert kinds(future.result(timeout=10)) == [ALONE.get(act, act) for act in acts]


def test_any_mixture_in_one_chunk_gives_each_its_own_outcome(engine: LocalEngine, good: Task) -> None:
    acts = ["crash_if_spoilt", "eat", "good", "spoil", "leave", "good", "crash_if_spoilt", "eat_if_spoilt"]
    outcomes = engine.submit([good if act == "good" else hostile(act) for act in acts]).result()
    own = {"good": "jpeg", "eat": "out_of_memory", "leave": "decoder_died"}
    assert kinds(outcomes) == [own.get(act, "undecodable") for act in acts]


def test_a_child_that_is_killed_costs_nothing(good: Task, tmp_path: Path) -> None:
    """Between two chunks by its parent's user, and in the middle of one, once."""
    with contextlib.closing(LocalEngine(Normalization(), workers=1)) as engine:
        assert kinds(engine.submit([good]).result()) == ["jpeg"]
        (child,) = engine._children
        os.kill(child.pid, signal.SIGKILL)
        assert kinds(engine.submit([good] * 3).result()) == ["jpeg"] * 3
        outcomes = engine.submit([good, hostile("crash_once", tmp_path / "flag"), good]).result()
        assert kinds(outcomes) == ["jpeg", "undecodable", "jpeg"] and outcomes[1] == OVER


def test_a_failure_ends_its_chunk_and_is_not_laid_on_a_photograph(engine: LocalEngine, good: Task) -> None:
    expected = engine.submit([good]).result()
    with pytest.raises(StorageFailure, match=r"the storage refused\n.*ask it nicely"):
        engine.submit([good, hostile("refuse"), hostile("spoil"), hostile("spoil")]).result()
    assert engine.submit([good]).result() == expected, "no answer of the chunk before"


def test_a_photograph_over_the_memory_limit_is_out_of_memory(good: Task, tmp_path: Path) -> None:
    """Its pixels alone, 4 bytes each, are 183 MiB; a child itself holds 75 to 90 MiB, by machine."""
    Image.new("RGB", (8000, 6000), "red").save(tmp_path / "large.png", compress_level=1)
    large = Task(tmp_path / "large.png")
    with contextlib.closing(LocalEngine(Normalization(), workers=1, memory_bytes=128 << 20)) as engine:
        assert kinds(engine.submit([good, large, good]).result()) == ["jpeg", "out_of_memory", "jpeg"]
    with contextlib.closing(LocalEngine(Normalization(), workers=1)) as engine:
        assert kinds(engine.submit([large]).result()) == ["jpeg"]


def test_a_child_is_limited_and_apart_from_its_parent(engine: LocalEngine) -> None:
    ((reason, detail),) = engine.submit([hostile("tell")]).result()
    (child,) = engine._children
    assert reason == "undecodable"
    assert detail == f"{child.pid} [{2 << 30}, 0] ['1', 1, 1] False"
    assert child.pid != os.getpid() and os.getpgid(child.pid) != os.getpgid(0)


def test_a_decoder_that_prints_is_not_heard(good: Task, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(LocalEngine(Normalization(), workers=1)) as engine:
        assert kinds(engine.submit([good, hostile("chatter"), good]).result()) == ["jpeg", "undecodable", "jpeg"]
        assert capfd.readouterr() == ("", "")
        assert kinds(engine.submit([hostile("raise_unforeseen")]).result()) == ["decoder_died"]
        assert "ZeroDivisionError: unforeseen" in capfd.readouterr().err


def test_a_small_build_starts_few_children_and_close_ends_them(good: Task) -> None:
    engine = LocalEngine(Normalization(), workers=4)
    for _ in range(3):
        engine.submit([good]).result()
    (child,) = engine._children
    assert alive(child.pid)
    engine.close()
    assert not alive(child.pid)


def test_close_does_not_wait_for_what_hangs(tmp_path: Path) -> None:
    engine = LocalEngine(Normalization(), workers=1)
    futures = [engine.submit([hostile("hang", tmp_path / "pid")]) for _ in range(3)]
    _wait_for(tmp_path / "pid")
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 5
    assert all(future.cancelled() or future.exception() is not None for future in futures)


PARENT = """
import sys
from shards.engines.local import LocalEngine
from shards.normalize import Normalization
from tests.shards.hostile import hostile
LocalEngine(Normalization(), workers=1).submit([hostile("hang", sys.argv[1])]).result()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_child_that_hangs_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "pid")], stderr=subprocess.PIPE, text=True, process_group=0
    )
    child = int(_wait_for(tmp_path / "pid"))
    assert alive(child)
    # As the keyboard does: to the whole group of the parent.
    os.killpg(parent.pid, how)
    if how == signal.SIGINT:
        # The interpreter waits for its threads once; a second signal, as an impatient person sends, ends that.
        time.sleep(0.2)
        os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def _wait_for(file: Path) -> str:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return file.read_text()


def test_a_child_that_does_not_start_is_a_failure_in_words(good: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = LocalEngine(Normalization(), workers=1)
    with contextlib.closing(engine), pytest.raises(Failure, match="did not start: the process ended with code 1"):
        engine.submit([good]).result()


def test_chunks_shrink_with_the_size_of_what_they_become() -> None:
    assert [chunk_of(Normalization(max_side=side)) for side in (16, 512, 1024, 2048, 8192)] == [16, 16, 16, 4, 1]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BadUsage, match="unknown engine 'spark'"):
        open_engine("spark", Normalization())
