"""Removing large files: the name goes at once, the bytes little by little, and nothing stays behind."""

import mmap
import os
import threading
from pathlib import Path

import pytest

from tracker.blobs import removing as module
from tracker.blobs.blobs import BlobStore
from tracker.blobs.removing import LARGE_BYTES, WAITING_BYTES_MAX, Remover


class Held:
    """Lets the remover's pauses pass one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pauses = threading.Semaphore(0)
        self.paused = threading.Semaphore(0)
        monkeypatch.setattr(module.time, "sleep", self._pause)

    def _pause(self, seconds: float) -> None:
        self.paused.release()
        assert self.pauses.acquire(timeout=10)

    def wait_until_paused(self) -> None:
        assert self.paused.acquire(timeout=10)

    def go_on(self, pauses: int = 1000) -> None:
        self.pauses.release(pauses)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def wait_for_the_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "remover":
            thread.join(10)


def test_a_large_file_loses_its_name_at_once_and_its_bytes_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, remover = Held(monkeypatch), Remover(tmp_path)
    file = sparse(tmp_path / "large", 3 * LARGE_BYTES)
    remover.remove(file)
    assert not file.exists()
    held.wait_until_paused()
    (left,) = tmp_path.iterdir()
    sizes = [left.stat().st_size]
    held.go_on(1)
    held.wait_until_paused()
    sizes.append(left.stat().st_size)
    assert sizes == [3 * LARGE_BYTES, 2 * LARGE_BYTES]
    held.go_on()
    wait_for_the_end()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_mapped", [False, True])
def test_who_reads_a_file_reads_it_to_its_end(tmp_path: Path, is_mapped: bool) -> None:
    remover = Remover(tmp_path)
    file = sparse(tmp_path / "large", 2 * LARGE_BYTES)
    with file.open("rb") as reading:
        mapped = mmap.mmap(reading.fileno(), 0, access=mmap.ACCESS_READ)
        if is_mapped:
            reading.close()
        remover.remove(file)
        wait_for_the_end()
        assert list(tmp_path.iterdir()) == []
        if not is_mapped:
            assert os.fstat(reading.fileno()).st_size == len(reading.read()) == 2 * LARGE_BYTES
        assert mapped[2 * LARGE_BYTES - 1] == 0  # on a shorter file this ends the process


def test_small_files_and_those_not_there_are_removed_at_once(tmp_path: Path) -> None:
    remover = Remover(tmp_path)
    remover.remove(tmp_path / "nowhere")
    remover.remove(sparse(tmp_path / "small", LARGE_BYTES - 1))
    assert list(tmp_path.iterdir()) == []


def test_no_more_waits_than_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, remover = Held(monkeypatch), Remover(tmp_path)
    remover.remove(sparse(tmp_path / "one", WAITING_BYTES_MAX))
    held.wait_until_paused()
    remover.remove(sparse(tmp_path / "other", LARGE_BYTES))
    (left,) = tmp_path.iterdir()  # the other is gone altogether
    assert left.stat().st_size == WAITING_BYTES_MAX
    held.go_on()
    wait_for_the_end()
    remover.remove(sparse(tmp_path / "again", LARGE_BYTES))
    wait_for_the_end()
    assert list(tmp_path.iterdir()) == []


def test_who_has_the_file_under_another_name_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, remover = Held(monkeypatch), Remover(tmp_path)
    kept = sparse(tmp_path / "kept", 2 * LARGE_BYTES)
    os.link(kept, tmp_path / "large")
    held.go_on()
    remover.remove(tmp_path / "large")
    wait_for_the_end()
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.stat().st_size == 2 * LARGE_BYTES


def test_a_restart_removes_what_was_still_to_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    store = BlobStore(tmp_path)
    blob = store.put(bytes(2 * LARGE_BYTES))
    store.delete(blob)
    assert not store.has(blob)
    assert store.blobs() == []
    held.wait_until_paused()
    assert len(list((tmp_path / "new").iterdir())) == 1
    BlobStore(tmp_path)
    assert list((tmp_path / "new").iterdir()) == []
    held.go_on()
    wait_for_the_end()
