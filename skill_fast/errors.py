"""The exit codes that training adds to those of ``shards.errors``; the list is in docs/exit_codes.md."""

from shards.errors import BadData, BadUsage, Failure, StorageFailure, exit_with


class TooMuchSkipped(Failure):
    """More photographs were skipped than the settings allow."""

    exit_code = 4


class NotFinite(Failure):
    """Loss or gradients stayed non-finite."""

    exit_code = 5


class Preempted(Failure):
    """A signal asked the run to stop; a checkpoint was written."""

    exit_code = 7


class LostRank(Failure):
    """Another rank died or stopped answering."""

    exit_code = 8


__all__ = [
    "BadData",
    "BadUsage",
    "Failure",
    "LostRank",
    "NotFinite",
    "Preempted",
    "StorageFailure",
    "TooMuchSkipped",
    "exit_with",
]
