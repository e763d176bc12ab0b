"""Two nodes' stores, for tests of imports: another's with a row of every kind, and ours, which is empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from record_rows import every_row

from tracker.store import Store


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "theirs" / "record.duckdb")
    store.write(every_row())
    yield store
    store.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "ours" / "record.duckdb")
    yield store
    store.close()
