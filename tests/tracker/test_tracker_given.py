"""Files that are given to the blob store: moved in, read once, verified, and nobody else's afterwards."""

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs import chunks, given
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of_data, chunk_hashes_of, chunk_hashes_of_file
from tracker.blobs.quota import Quota

LARGE = 2 * CHUNK_BYTES + 5


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def given_file(folder: Path, data: bytes) -> Path:
    file = folder / "given"
    file.write_bytes(data)
    return file


def change_and_set_back(descriptor: int) -> None:
    """Change an open file, and give it the times that it had; once the file system's clock, of a few ms, has ticked."""
    before = os.fstat(descriptor)
    while os.fstat(descriptor).st_ctime_ns == before.st_ctime_ns:
        os.pwrite(descriptor, b"changed", 0)
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_new(store: BlobStore, tmp_path: Path) -> list[Path]:
    return list((tmp_path / "blobs" / "new").iterdir())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, LARGE])
def test_a_given_file_becomes_the_blob_without_being_copied(store: BlobStore, tmp_path: Path, size: int) -> None:
    file = given_file(tmp_path, content(size))
    os.chmod(file, 0o666)
    inode = file.stat().st_ino
    taken = store.take(file)
    assert taken.blob == blob_id_of_data(content(size))
    assert taken.is_new
    assert not file.exists()
    assert not in_new(store, tmp_path)
    stored = store.path(taken.blob)
    assert stored.stat().st_ino == inode
    assert stored.stat().st_mode & 0o777 == 0o600
    assert store.open(taken.blob).read() == content(size)


def test_what_is_here_already_is_told_and_not_stored_again(store: BlobStore, tmp_path: Path) -> None:
    blob = store.put(content(LARGE))
    inode = store.path(blob).stat().st_ino
    taken = store.take(given_file(tmp_path, content(LARGE)))
    assert (taken.blob, taken.is_new) == (blob, False)
    assert store.path(blob).stat().st_ino == inode
    assert not (tmp_path / "given").exists()
    assert not in_new(store, tmp_path)


def test_under_another_name_it_is_not_stored(store: BlobStore, tmp_path: Path) -> None:
    right, wrong = blob_id_of_data(content(LARGE)), BlobId("0" * 64)
    taken = store.take(given_file(tmp_path, content(LARGE)), only_as=wrong)
    assert (taken.blob, taken.is_new) == (right, False)
    assert not store.has(right)
    assert not (tmp_path / "given").exists()
    assert not in_new(store, tmp_path)
    assert store.take(given_file(tmp_path, content(LARGE)), only_as=right).is_new
    assert store.has(right)


def test_links_pipes_and_files_of_two_names_are_refused(store: BlobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")  # no longer than the link to it
    for make in (
        lambda path: path.symlink_to(secret),
        lambda path: os.link(secret, path),
        lambda path: os.mkfifo(path),
    ):
        make(tmp_path / "given")
        with pytest.raises(FednodeError):
            store.take(tmp_path / "given")
        assert not (tmp_path / "given").exists()
        assert not in_new(store, tmp_path)
    assert store.blobs() == []
    assert secret.read_bytes() == b"x"
    with pytest.raises(FednodeError, match="No such file"):
        store.take(tmp_path / "given")


def test_a_file_that_changes_while_it_is_read_is_no_blob(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may have it open still; setting its times back does not hide it."""
    file = given_file(tmp_path, content(LARGE))
    with file.open("r+b") as kept:
        read = chunk_hashes_of_file

        def reading(*arguments: object) -> tuple[list[bytes], int]:
            found = read(*arguments)  # type: ignore[arg-type]
            change_and_set_back(kept.fileno())
            return found

        monkeypatch.setattr("tracker.blobs.blobs.chunk_hashes_of_file", reading)
        with pytest.raises(FednodeError, match="changes while it is stored"):
            store.take(file, may_change=True)
    assert store.blobs() == []
    assert not in_new(store, tmp_path)


def test_what_its_maker_changed_afterwards_is_not_given_to_anybody(store: BlobStore, tmp_path: Path) -> None:
    """Not even when its maker sets the file's times back."""
    file = given_file(tmp_path, content(LARGE))
    with file.open("r+b") as kept:
        blob = store.take(file).blob
        change_and_set_back(kept.fileno())
    with pytest.raises(FednodeError, match=f"{blob} is damaged"):
        store.sound_path(blob)
    assert not store.has(blob)


def test_what_may_change_is_read_through_whatever_its_stamps_say(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change through a mapping may move no stamp, and one within a tick of the clock moves none that differs."""
    monkeypatch.setattr("tracker.blobs.blobs._stamp", lambda path: (1, 1, 1, 1))
    file = given_file(tmp_path, content(LARGE))
    with file.open("r+b") as kept:
        blob = store.take(file, may_change=True).blob
        os.pwrite(kept.fileno(), b"changed", 0)
    with pytest.raises(FednodeError, match=f"{blob} is damaged"):
        store.sound_path(blob)


def test_what_nobody_changed_is_read_once(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = store.take(given_file(tmp_path, content(LARGE))).blob
    theirs = store.take(given_file(tmp_path, content(LARGE + 1)), may_change=True).blob
    hashed: list[int] = []
    monkeypatch.setattr(
        "tracker.blobs.blobs.hash_chunk", lambda data: (hashed.append(len(data)), chunks.hash_chunk(data))[1]
    )
    store.sound_path(ours)
    assert hashed == []
    store.sound_path(theirs)
    store.sound_path(theirs)
    assert len(hashed) == 3


def test_from_another_file_system_it_is_copied(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = given_file(tmp_path, content(LARGE))

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(given.os, "rename", refuse)
    taken = store.take(file)
    assert store.open(taken.blob).read() == content(LARGE)
    assert not file.exists()
    assert not in_new(store, tmp_path)


def test_a_quota_holds_for_given_files(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", quota=Quota(bytes_max=LARGE - 1))
    with pytest.raises(Refused):
        store.take(given_file(tmp_path, content(LARGE)))
    assert store.blobs() == []
    assert (tmp_path / "given").exists(), "whoever gave it may try again"
    assert not in_new(store, tmp_path)


def test_a_call_that_is_cancelled_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        store.take(given_file(tmp_path, content(LARGE)), check_cancelled=cancel)
    assert store.blobs() == []
    assert not in_new(store, tmp_path)


def test_many_give_the_same(store: BlobStore, tmp_path: Path) -> None:
    files = [tmp_path / f"given-{number}" for number in range(8)]
    for file in files:
        file.write_bytes(content(LARGE))
    found: list[BlobId] = []
    threads = [threading.Thread(target=lambda file=file: found.append(store.take(file).blob)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [blob_id_of_data(content(LARGE))] * 8
    assert store.open(found[0]).read() == content(LARGE)
    assert not in_new(store, tmp_path)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, LARGE])
def test_a_file_read_piece_by_piece_has_the_hashes_of_its_bytes(tmp_path: Path, size: int) -> None:
    """Also where reads come short."""
    file = given_file(tmp_path, content(size))

    class Short:
        def __init__(self) -> None:
            self.rest = content(size)

        def readinto(self, room: memoryview) -> int:
            part, self.rest = self.rest[: min(len(room), 300_001)], self.rest[min(len(room), 300_001) :]
            room[: len(part)] = part
            return len(part)

    with file.open("rb") as opened, (tmp_path / "copy").open("wb") as copy:
        assert chunk_hashes_of_file(opened, copy_to=copy) == (chunk_hashes_of(content(size)), size)
    assert (tmp_path / "copy").read_bytes() == content(size)
    assert chunk_hashes_of_file(Short()) == (chunk_hashes_of(content(size)), size)  # type: ignore[arg-type]
    assert blob_id_of_data(file) == blob_id_of_data(content(size))
