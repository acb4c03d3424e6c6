"""Types of command line options: what is out of range is a usage error, exit code 2, before anything is measured."""

from __future__ import annotations

import argparse
import math


def count(text: str) -> int:
    """A whole number from 1: repeats, batches, steps."""
    return _whole(text, least=1)


def count_or_none(text: str) -> int:
    """A whole number from 0, which leaves something out."""
    return _whole(text, least=0)


def seconds(text: str) -> float:
    """Seconds from 0."""
    found = _number(text)
    if not 0 <= found < math.inf:
        raise _refused(text, "seconds, 0 or more")
    return found


def above_0(text: str) -> float:
    """A budget in seconds, a pace: more than 0."""
    found = _number(text)
    if not found > 0:
        raise _refused(text, "a number above 0")
    return found


def _whole(text: str, least: int) -> int:
    try:
        found = int(text)
    except ValueError:
        found = least - 1
    if found < least:
        raise _refused(text, f"a whole number, {least} or more")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refused(text: str, allowed: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"'{text}' can not be carried out; allowed: {allowed}; change the option")
