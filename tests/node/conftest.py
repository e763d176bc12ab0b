"""What tests of commands stand on: a node that is in memory alone, where commands find it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_service import MemoryService, serving


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryService]:
    home = tmp_path / "home"
    monkeypatch.setenv("FEDNODE_HOME", str(home))
    with serving(home) as service:
        yield service
