"""The engine ray on a real cluster of two nodes, each of one CPU, started here."""

import builtins
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shards.build import Progress, build
from shards.engines import Task, open_engine
from shards.engines.ray import check_node
from shards.errors import BadData, BadUsage, Failure
from shards.normalize import Jpeg, Normalization
from shards.versions import versions_here
from tests.shards.conftest import photograph
from tests.shards.hostile import hostile

NODE = {
    "num_cpus": 1,
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        cluster.add_node(**NODE)
        # Starting a cluster takes SIGTERM for Ray.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 products of 2 photographs, some of them bad."""
    root = tmp_path_factory.mktemp("ray") / "photographs"
    for number in range(180):
        photograph(root / f"p{number // 2:02d}" / f"{number % 2}.png", 30 + number % 40, 40, seed=number)
    (root / "p07" / "0.png").write_bytes(b"no image")
    (root / "p08" / "1.png").write_bytes((root / "p08" / "1.png").read_bytes()[:200])
    (root / "p09" / "2.png").touch()
    return root


@pytest.fixture(scope="module")
def local(photographs: Path) -> dict[str, bytes]:
    with contextlib.chdir(photographs.parent):
        build("photographs", "local", shard_mib=0.05, workers=0)
    return contents(photographs.parent / "local")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ray_workers(cluster: Any) -> list[int]:
    """Process ids of Ray's workers, which are the children of the nodes' raylets."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent in raylets and (process / "cmdline").read_bytes().startswith((b"ray::norm", b"ray::IDLE")):
                found.append(int(process.name))
    return found


def test_a_build_is_byte_identical_though_a_worker_and_a_node_are_lost(
    cluster: Any, photographs: Path, local: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs.parent)
    lost: list[str] = []
    handlers: list[bool] = []

    def lose(done: Progress) -> None:
        handlers.append(_is_rays(signal.getsignal(signal.SIGTERM)))
        if not lost and done.images_written:
            os.kill(ray_workers(cluster)[0], signal.SIGKILL)
            lost.append("worker")
        elif len(lost) == 1 and done.images_written > 60:
            cluster.remove_node(cluster.list_all_nodes()[1])
            lost.append("node")

    options = {"shard_mib": 0.05, "engine": "ray", "ray_address": cluster.address}
    dataset = build("photographs", tmp_path / "out", progress=lose, **options)
    assert lost == ["worker", "node"] and handlers and not any(handlers)
    assert dataset["counts"]["images_rejected"] == {"not_an_image": 1, "truncated": 1, "empty_file": 1}
    assert contents(tmp_path / "out") == local
    assert not __import__("ray").is_initialized()


def _is_rays(handler: Any) -> bool:
    return getattr(handler, "__module__", "").startswith("ray")


def test_what_crashes_a_decoder_on_a_node_costs_itself_alone(cluster: Any, photographs: Path) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        good = Task(photographs / "p00" / "0.png")
        with contextlib.closing(open_engine("ray", Normalization(), workers=1)) as engine:
            outcomes = engine.submit([good, hostile("crash"), good]).result()
            assert [isinstance(outcome, Jpeg) for outcome in outcomes] == [True, False, True]
            assert outcomes[1] == ("decoder_died", "the process ended with code -11")
            engine.submit([hostile("hang")])
            assert engine.chunk == 32 and engine.ahead == 64
        assert ray.is_initialized(), "a session that the engine did not open is not its to close"
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_without_ray_installed_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BadUsage, match=r"needs the package ray.*\n.*pip install 'skill_fast"):
        open_engine("ray", Normalization())


def test_an_address_without_a_cluster_and_no_workers_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for given in (address, f"ray://{address}"):
        with pytest.raises(BadUsage, match=f"no Ray cluster at {given}: .*refused"):
            open_engine("ray", Normalization(), ray_address=given)
    with pytest.raises(BadUsage, match="workers is 0"):
        open_engine("ray", Normalization(), workers=0)


def test_a_node_that_lacks_the_files_or_has_other_versions_is_an_error_not_a_reject(tmp_path: Path) -> None:
    here, gone = Task(photograph(tmp_path / "here.png")), Task(tmp_path / "gone.png")
    check_node("n1", versions_here(), [here, gone], [Jpeg(b"", 1, 1), ("missing_file", "ENOENT")])
    check_node("n1", versions_here(), [here], [("truncated", "")])
    with pytest.raises(BadData, match=r"node 'n1' does not see '.*here.png', which exists here"):
        check_node("n1", versions_here(), [gone, here], [("missing_file", ""), ("missing_file", "")])
    older = tuple(version.replace("pillow ", "pillow 0") for version in versions_here())
    with pytest.raises(Failure, match="node 'n1' has pillow 0"):
        check_node("n1", older, [], [])
