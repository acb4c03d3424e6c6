"""docs/shard_format.md names what the code has."""

import re
from pathlib import Path

from shards.duplicates import KINDS
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.table_files import TABLES


def test_the_page_names_every_reason_column_and_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "shard_format.md").read_text()
    names = [
        *IMAGE_REASONS,
        *PRODUCT_REASONS,
        *KINDS,
        *(name for table in TABLES for name in (table, *TABLES[table].names)),
    ]
    assert [name for name in names if f"`{name}`" not in page] == []
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} >= {*IMAGE_REASONS, *PRODUCT_REASONS}
