"""SKILL_FAST_LONG=1 makes tests longer; any other value, 0 among them, leaves them as they are."""

from __future__ import annotations

import re
from pathlib import Path

ASKED = re.compile(r'environ[^\n]{0,9}"SKILL_FAST_LONG"\]?\)?(?P<compared>[^\n]*)')


def test_every_file_asks_for_the_value_one() -> None:
    found = {
        str(path): match["compared"]
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        for match in ASKED.finditer(path.read_text())
    }
    assert len(found) > 15, "the pattern still finds them"
    assert [path for path, compared in found.items() if not re.match(r' [!=]= "1"', compared)] == []
