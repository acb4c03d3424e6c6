"""Failures that a person can mend: what came, what is allowed, what to change, and an exit code for scripts.

The list of exit codes is documented in docs/exit_codes.md; training adds its own in ``skill_fast.errors``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

_CHANGES = {
    errno.EMFILE: "raise ulimit -n, the limit of open files",
    errno.ENFILE: "end other programs, or raise fs.file-max, the system's limit of open files",
}
"""What to change where the system says too little."""


class Failure(Exception):
    """An error with a cause a person can act on.

    ``Failure("folder 'x' does not exist", allowed="a folder of photographs", change="check the path")`` prints as three
    lines; ``exit_code`` is what the process ends with.
    """

    exit_code = 1

    def __init__(self, came: str, *, allowed: str = "", change: str = "") -> None:
        super().__init__(came)
        self.came, self.allowed, self.change = came, allowed, change

    def __str__(self) -> str:
        lines = [self.came]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.change:
            lines.append(f"  change:  {self.change}")
        return "\n".join(lines)


class BadUsage(Failure):
    """The command line or a configuration can not be carried out."""

    exit_code = 2


class BadData(Failure):
    """Photographs, a manifest, shards or tables are missing, damaged or not what they claim to be."""

    exit_code = 3


class StorageFailure(Failure):
    """The file system refused: no space, no permission, an I/O error."""

    exit_code = 6


def exit_with(main: Callable[[], int | None]) -> int:
    """Run ``main`` and turn a Failure into a message on stderr and its exit code.

    Standard streams that are closed are opened on nothing before that.

    >>> exit_with(lambda: 0)
    0
    """
    open_standard_streams()
    try:
        return main() or 0
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    except OSError as error:
        if error.errno is None:
            raise
        where = f" at '{error.filename}'" if error.filename else ""
        told = Failure(f"{error.strerror}{where} (errno {error.errno})", change=_CHANGES.get(error.errno, ""))
        print(f"error: {told}", file=sys.stderr)
        return StorageFailure.exit_code
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        return 130


def open_standard_streams() -> None:
    """Where a command was started with stdin, stdout or stderr closed, open it on nothing.

    The next file that is opened would take its number, and get what a library prints; a child would lose it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
