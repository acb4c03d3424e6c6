"""Photographs -> JPEGs on a Ray cluster: each chunk is a task of one CPU that keeps a protected child on its node.

The nodes need this package, in the same versions of the libraries that decide about pixels, and must reach the
photographs under the paths of the catalogue: on a shared file system or in object storage. The JPEGs come back here;
only this machine writes. A task whose worker or node is lost runs again elsewhere.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from shards.engines import Outcome, Task
from shards.engines.local import LocalEngine, chunk_of
from shards.errors import BadData, BadUsage, Failure
from shards.normalize import Normalization
from shards.versions import Versions, versions_here

CHUNKS_TOGETHER = 2
"""Chunks of the local engine in one task, which costs about a millisecond of its own."""
CHUNKS_AHEAD = 2
"""For each worker: one in work, one that waits or is done and waits to be written."""
CONNECT_S = 10.0
RETRIES = 5
"""Of one task whose worker or node was lost."""


class RayEngine:
    """Up to ``workers`` tasks at once on the cluster at ``address``; None is one a CPU of the cluster.

    address: as ``ray.init`` takes it; None is RAY_ADDRESS, else a cluster that runs on this machine, else one that is
    started here and ended by ``close``. Raises BadUsage where Ray is not installed or no cluster answers.
    """

    def __init__(self, how: Normalization, *, workers: int | None = None, address: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise BadUsage(f"workers is {workers}", allowed="1 or more with the engine ray")
        self._ray = _import_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            _connect(self._ray, address)
        self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self.chunk = CHUNKS_TOGETHER * chunk_of(how)
        self.ahead = self.chunk * CHUNKS_AHEAD * self.workers
        self._normalize = self._ray.remote(num_cpus=1, max_retries=RETRIES)(normalize_on_node)
        self._how = self._ray.put(how)
        self._threads = ThreadPoolExecutor(self.workers, "shards-ray")
        self._under_way: set[Any] = set()

    def submit(self, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        return self._threads.submit(self._on_cluster, [_with_absolute_path(task) for task in tasks])

    def close(self) -> None:
        """Forget what is under way; a cluster that was found running goes on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for reference in tuple(self._under_way):
            self._ray.cancel(reference, force=True)
        self._threads.shutdown()
        if self._started:
            self._ray.shutdown()

    def _on_cluster(self, tasks: list[Task]) -> list[Outcome]:
        reference = self._normalize.remote(tasks, self._how)
        self._under_way.add(reference)
        try:
            node, versions, outcomes = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise Failure(
                f"the Ray cluster lost a chunk of {len(tasks)} photographs: {error}",
                change="look at the cluster; the same command goes on where this one stopped",
            ) from error
        finally:
            self._under_way.discard(reference)
        check_node(node, versions, tasks, outcomes)
        return outcomes


def normalize_on_node(tasks: Sequence[Task], how: Normalization) -> tuple[str, Versions, list[Outcome]]:
    """What runs on a node: its name, the versions there, and the outcomes."""
    return socket.gethostname(), versions_here(), _node_engine(how).submit(tasks).result()


@lru_cache(maxsize=1)
def _node_engine(how: Normalization) -> LocalEngine:
    """One child for each of Ray's processes, for as long as Ray keeps it; the kernel ends it with that process."""
    return LocalEngine(how, workers=1)


def check_node(node: str, versions: Versions, tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> None:
    """Raise Failure where the node would make other bytes, or BadData where it does not see a file that is here."""
    if versions != versions_here():
        differing = sorted(set(versions) - set(versions_here()))
        raise Failure(
            f"node '{node}' has {', '.join(differing)}",
            allowed=f"the versions here, as each makes its own bytes: {', '.join(versions_here())}",
            change="install the same packages on all nodes",
        )
    for task, outcome in zip(tasks, outcomes, strict=True):
        absent = isinstance(outcome, tuple) and outcome[0] == "missing_file"
        if absent and isinstance(task.photograph, Path) and task.photograph.exists():
            raise BadData(
                f"node '{node}' does not see '{task.photograph}', which exists here",
                allowed="photographs that all nodes reach under the same path",
                change="put them on a shared file system or in object storage, or build with --engine local",
            )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise BadUsage(
            f"the engine ray needs the package ray: {error}",
            change="pip install 'skill_fast[ray]', or build with --engine local",
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    before = signal.getsignal(signal.SIGTERM)
    try:
        _demand_listener(address)
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise BadUsage(
            f"no Ray cluster at {address or 'this machine'}: {error}",
            allowed="HOST:PORT of a cluster's head, ray://HOST:PORT, or auto",
            change="check --ray-address and RAY_ADDRESS, or leave both out to start a cluster here",
        ) from error
    finally:
        # Ray takes SIGTERM for itself; what a build says when it is stopped is the caller's.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _demand_listener(address: str | None) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself goes on trying for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_S).close()


def _with_absolute_path(task: Task) -> Task:
    """The working directory of a node is another."""
    photograph = task.photograph
    return task._replace(photograph=photograph.absolute()) if isinstance(photograph, Path) else task
