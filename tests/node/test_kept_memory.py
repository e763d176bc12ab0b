"""Memory that chunks pass through is not asked of the system again and again."""

import subprocess
import sys

import pytest

from node.kept_memory import keep_memory

_COUNT = """
import resource
from node.kept_memory import keep_memory
{keep}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    chunk = bytes(1024 * 1024)  # what is asked for first is new in any case
    del chunk
before = faults()
for _ in range(50):
    chunk = bytearray(b"x") * (1024 * 1024)
    del chunk
print(faults() - before)
"""


def _faults(keep: str) -> int:
    done = subprocess.run([sys.executable, "-c", _COUNT.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the C library has no such option")
def test_chunks_come_from_memory_that_is_there() -> None:
    assert _faults("keep_memory()") < 50


def test_where_it_cannot_be_said_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    keep_memory()
