"""What holds for all tests of the dashboard: times are shown in this machine's zone, so there must be but one."""

import time

import pytest


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
