"""Blobs on disk: names, sizes, durability's order, half blobs, quota, collection."""

import os
import random
import stat
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker import durable
from tracker.blobs import blobs as blobs_module
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.blobs.quota import FREE_BYTES_MIN, FREE_SHARE_MIN, Quota


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_the_id_is_what_the_definition_says() -> None:
    data = content(CHUNK_BYTES + 3)
    hashes = [blake3(data[:CHUNK_BYTES]).digest(), blake3(data[CHUNK_BYTES:]).digest()]
    size = (CHUNK_BYTES + 3).to_bytes(8, "little")
    assert (
        blob_id_of(chunk_hashes_of(data), len(data))
        == blake3(b"fednode/blob/1\n" + size + b"".join(hashes)).hexdigest()
    )
    assert blob_id_of([], 0) == blake3(b"fednode/blob/1\n" + bytes(8)).hexdigest()


def test_a_list_of_chunks_is_not_the_blob_of_its_bytes() -> None:
    """The domain tag and the size: nothing that is a chunk, or a shorter list, has another blob's name."""
    data = content(2 * CHUNK_BYTES)
    hashes = chunk_hashes_of(data)
    listed = b"".join(hashes)
    names = {blob_id_of(hashes, len(data)), blob_id_of(hashes, len(data) - 1), blob_id_of(hashes[:1], CHUNK_BYTES)}
    names |= {blob_id_of(chunk_hashes_of(listed), len(listed)), BlobId(blake3(listed).hexdigest())}
    assert len(names) == 5


SIZES = st.one_of(
    st.integers(0, 5000), st.builds(lambda c, d: max(0, c * CHUNK_BYTES + d), st.integers(0, 3), st.integers(-2, 2))
)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(0, 3), st.booleans())
@example(0, 0, True)
@example(1, 0, True)
@example(CHUNK_BYTES - 1, 0, False)
@example(CHUNK_BYTES, 0, True)
@example(CHUNK_BYTES + 1, 0, False)
def test_any_size_comes_out_as_it_went_in(size: int, seed: int, from_file: bool) -> None:
    data = content(size, seed)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        source.write_bytes(data)
        store = BlobStore(Path(directory) / "blobs")
        blob = store.put(source if from_file else data)
        assert store.put(data if from_file else source) == blob
        assert store.open(blob).read() == data
        assert store.path(blob).read_bytes() == data
        assert store.usage() == blobs_module.BlobUsage(1, size, 0)
        store.verify(blob)
        assert BlobStore(Path(directory) / "blobs").blobs() == [blob]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3 * CHUNK_BYTES), st.randoms(use_true_random=False))
def test_any_order_and_any_number_of_interruptions(size: int, randomness: random.Random) -> None:
    data = content(size)
    hashes = chunk_hashes_of(data)
    blob = blob_id_of(hashes, size)
    with tempfile.TemporaryDirectory() as directory:
        while True:
            store = BlobStore(Path(directory))
            half = store.receive(blob, hashes, size)
            missing = half.missing()
            randomness.shuffle(missing)
            for index in missing[: randomness.randrange(1, 3)]:
                half.write_chunk(index, data[index * CHUNK_BYTES :][:CHUNK_BYTES])
            if not half.missing():
                break
            assert not store.has(blob)
            with pytest.raises(FednodeError):
                store.open(blob)
        half.finish()
        assert store.open(blob).read() == data
        assert tree(Path(directory)) <= {f"whole/{blob}", f"whole/{blob}.chunks"}


def test_what_a_crash_tore_in_a_half_blob_is_fetched_again(tmp_path: Path) -> None:
    data = content(3 * CHUNK_BYTES)
    hashes = chunk_hashes_of(data)
    blob = blob_id_of(hashes, len(data))
    half = BlobStore(tmp_path).receive(blob, hashes, len(data))
    for index in (0, 1):
        half.write_chunk(index, data[index * CHUNK_BYTES :][:CHUNK_BYTES])
    path = tmp_path / "half" / blob
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES + 4096)
        file.write(bytes(4096))
    os.truncate(path, CHUNK_BYTES * 2)
    assert BlobStore(tmp_path).receive(blob, hashes, len(data)).missing() == [1, 2]


def test_nothing_is_visible_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: the bytes, then the chunk list, then the name, then the directory."""
    steps: list[str] = []
    sync, replace, sync_directory = durable.sync, os.replace, durable.sync_directory

    def noted_sync(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def noted_replace(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        steps.append("list" if os.fspath(target).endswith(".chunks") else "name")
        replace(source, target)

    def noted_directory(directory: Path) -> None:
        steps.append("directory")
        sync_directory(directory)

    store = BlobStore(tmp_path)
    for module in (durable, blobs_module):
        monkeypatch.setattr(module, "sync", noted_sync)
        monkeypatch.setattr(module, "sync_directory", noted_directory)
    monkeypatch.setattr(os, "replace", noted_replace)
    store.put(b"one chunk")
    assert steps == ["sync", "name", "directory"]
    steps.clear()
    store.put(content(CHUNK_BYTES + 1))
    assert steps == ["sync", "sync", "list", "directory", "name", "directory"]
    steps.clear()
    data = content(CHUNK_BYTES + 2)
    hashes = chunk_hashes_of(data)
    half = store.receive(blob_id_of(hashes, len(data)), hashes, len(data))
    half.write_chunk(0, data[:CHUNK_BYTES])
    half.write_chunk(1, data[CHUNK_BYTES:])
    assert steps == []
    half.finish()
    assert steps == ["sync", "sync", "list", "directory", "name", "directory"]
    steps.clear()
    store.put(data)
    assert steps == []


@pytest.mark.parametrize("hurt", ["flip", "truncate", "extend", "empty", "list", "no list"])
def test_damage_is_found_and_named(tmp_path: Path, hurt: str) -> None:
    store = BlobStore(tmp_path)
    blob = store.put(content(2 * CHUNK_BYTES + 9))
    path, chunks = store.path(blob), tmp_path / "whole" / f"{blob}.chunks"
    raw = bytearray(path.read_bytes())
    raw[CHUNK_BYTES + 77] ^= 1
    match hurt:
        case "flip":
            path.write_bytes(raw)
        case "truncate":
            os.truncate(path, CHUNK_BYTES)
        case "extend":
            os.truncate(path, 3 * CHUNK_BYTES)
        case "empty":
            os.truncate(path, 0)
        case "list":
            chunks.write_bytes(chunks.read_bytes()[::-1])
        case "no list":
            chunks.unlink()
    with pytest.raises(FednodeError, match=blob) as error:
        store.verify(blob)
    assert error.value.remedy
    store.delete(blob)
    assert tree(tmp_path) == set()


def test_a_damaged_single_chunk_is_not_opened(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    blob = store.put(b"small")
    store.path(blob).write_bytes(b"smell")
    with pytest.raises(FednodeError, match=f"{blob}.*damaged"):
        store.open(blob)


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    data = content(CHUNK_BYTES + 1)
    hashes = chunk_hashes_of(data)
    store.put(data + b"x")
    half = store.receive(blob_id_of(hashes, len(data)), hashes, len(data))
    half.write_chunk(0, data[:CHUNK_BYTES])
    for path in (tmp_path / "blobs").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_put_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(content(3 * CHUNK_BYTES))
    store = BlobStore(tmp_path / "blobs")
    calls = iter([None, None])

    def check() -> None:
        if next(calls, "enough") == "enough":
            raise KeyError("cancelled")

    with pytest.raises(KeyError):
        store.put(source, check)
    assert tree(tmp_path / "blobs") == set()


def test_what_a_killed_put_left_is_removed_on_opening(tmp_path: Path) -> None:
    BlobStore(tmp_path)
    (tmp_path / "new" / ".new-abc").write_bytes(b"x")
    (tmp_path / "whole" / ".new-abc").write_bytes(b"x")
    BlobStore(tmp_path)
    assert tree(tmp_path) == set()


def test_the_quota_refuses_what_would_go_over(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota=Quota(2 * CHUNK_BYTES))
    data = content(CHUNK_BYTES + 10)
    hashes = chunk_hashes_of(data)
    blob = blob_id_of(hashes, len(data))
    half = store.receive(blob, hashes, len(data))
    for source in (content(CHUNK_BYTES), _file(tmp_path / "source", content(CHUNK_BYTES))):
        with pytest.raises(Refused) as refused:
            store.put(source)
        assert refused.value.code == "blob-quota"
    other = content(CHUNK_BYTES, 1)
    with pytest.raises(Refused):
        store.receive(blob_id_of(chunk_hashes_of(other), CHUNK_BYTES), chunk_hashes_of(other), CHUNK_BYTES)
    assert store.receive(blob, hashes, len(data)).missing() == [0, 1]
    half.abandon()
    assert store.put(content(CHUNK_BYTES)) == store.put(content(CHUNK_BYTES))


def test_a_quota_may_change_and_the_disk_keeps_a_margin(tmp_path: Path) -> None:
    quota = Quota(10)
    store = BlobStore(tmp_path, quota=quota)
    with pytest.raises(Refused, match="of which 0 are used") as refused:
        store.put(b"eleven byte")
    assert "--blobs-max" in refused.value.remedy
    quota.bytes_max = None
    store.put(b"eleven byte")
    disk = os.statvfs(tmp_path)
    size, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    assert quota.floor(size) == min(FREE_BYTES_MIN, int(size * FREE_SHARE_MIN))
    assert quota.floor(10**9) == 50_000_000
    with pytest.raises(Refused, match="free on the disk"):
        quota.check(0, free - quota.floor(size) + CHUNK_BYTES * 64, tmp_path)
    quota.check(0, 0, tmp_path)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_discarding_spares_what_was_stored_or_asked_for_since(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    asked, old, again = store.put(b"asked"), store.put(content(CHUNK_BYTES + 1)), store.put(b"again")
    data = b"half"
    half_id = blob_id_of(chunk_hashes_of(data), len(data))
    store.receive(half_id, chunk_hashes_of(data), len(data)).write_chunk(0, data)
    for name in tree(tmp_path):
        os.utime(tmp_path / name, (1000, 1000))
    assert {each.blob: (each.bytes, each.unused_s, each.is_half) for each in store.stored(now=1500)} == {
        asked: (5, 500, False),
        old: (CHUNK_BYTES + 1, 500, False),
        again: (5, 500, False),
        half_id: (4, 500, True),
    }
    assert store.put(b"again") == again
    assert store.has(asked)
    assert [store.discard(blob, 2000) for blob in (asked, old, again, half_id)] == [0, CHUNK_BYTES + 1, 0, 4]
    assert not store.has(old)
    assert tree(tmp_path) == {f"whole/{asked}", f"whole/{again}"}
    assert store.discard(asked, time.time() + 1) == 5
    assert store.blobs() == [again]


def test_who_stores_while_another_thread_discards_finds_it(tmp_path: Path) -> None:
    """Whichever comes first: a blob that was stored, or said to be here, is here."""
    store = BlobStore(tmp_path)
    for turn in range(300):
        data = b"%d" % (turn % 7)
        blob = store.put(data)
        os.utime(store.path(blob), (1000, 1000))
        said: list[object] = []
        claim = partial(store.has, blob) if turn % 2 else partial(store.put, data)
        works = [partial(store.discard, blob, 2000), lambda claim=claim, said=said: said.append(claim())]
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads[:: 1 if turn % 3 else -1]:
            thread.start()
        for thread in threads:
            thread.join()
        if said != [False]:
            assert store.open(blob).read() == data


def test_a_new_half_blob_of_many_gigabytes_is_not_read_through(tmp_path: Path) -> None:
    size = 64 * CHUNK_BYTES
    hashes = chunk_hashes_of(bytes(CHUNK_BYTES)) * 64
    blob = blob_id_of(hashes, size)
    half = BlobStore(tmp_path).receive(blob, hashes, size)
    assert (tmp_path / "half" / blob).stat().st_size == size
    half = BlobStore(tmp_path).receive(blob, hashes, size)
    assert len(half.missing()) == 64
