"""Builds shards in forks of itself, so that a test can end many builds without waiting for imports each time.

A JSON object a line on stdin: the arguments of ``build``, and maybe "die_at": before which of its steps on the file
system the build kills itself. On stdout the pid of the fork, then its exit code (a signal is negative).
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
from typing import Any

from shards.build import build
from shards.errors import exit_with

STEPS = ("replace", "rename", "unlink", "rmdir", "fsync", "mkdir")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # What is loaded at its first use is loaded here once, not in every fork.
        build("demo", folder, designs=1, photo_side=16, workers=0)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            if "die_at" in request:
                _die_before(request.pop("die_at"))
            _build(**request)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _die_before(step: int) -> None:
    """Count calls that change the file system, and kill this process instead of making the one with this number."""
    made = 0

    def counted(name: str) -> None:
        original = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            if made == step:
                os.kill(os.getpid(), signal.SIGKILL)
            # What a killed process has written stays in the kernel: waiting for the disk changes nothing.
            return None if name == "fsync" else original(*args, **kwargs)

        setattr(os, name, call)

    for name in STEPS:
        counted(name)


def _build(**request: Any) -> None:
    code = 1
    with contextlib.suppress(BaseException):
        code = exit_with(lambda: build(**request) and None)
    os._exit(code)


if __name__ == "__main__":
    main()
