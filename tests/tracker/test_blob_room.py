"""Room for blobs when several ask for it at once: nobody gets what another was promised, and all is given back."""

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from node.home.disk import FileDisk
from protocol.errors import Refused
from protocol.limits import CHUNK_BYTES
from tracker.blobs import blobs as blobs_module
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.blobs.halves import begin_half
from tracker.blobs.quota import Quota

SIZE = CHUNK_BYTES + 10
QUOTA_BYTES = 2 * SIZE - 1  # one finds room, and not two
HANGS_S = 0.2  # how long the second may take to get through where nobody holds it up


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def put(store: BlobStore, folder: Path, seed: int) -> None:
    store.put(content(seed))


def put_file(store: BlobStore, folder: Path, seed: int) -> None:
    (folder / f"file-{seed}").write_bytes(content(seed))
    store.put(folder / f"file-{seed}")


def take(store: BlobStore, folder: Path, seed: int) -> None:
    (folder / f"given-{seed}").write_bytes(content(seed))
    store.take(folder / f"given-{seed}")


def receive(store: BlobStore, folder: Path, seed: int) -> None:
    hashes = chunk_hashes_of(content(seed))
    store.receive(blob_id_of(hashes, SIZE), hashes, SIZE)


def early(store: BlobStore, folder: Path, seed: int) -> None:
    store.receive_early(SIZE)


WAYS = [put, put_file, take, receive, early]
Way = Callable[[BlobStore, Path, int], None]


class HeldUp(Quota):
    """At its first check another asks for room, and gets as far as it can before the first goes on."""

    def __init__(self, bytes_max: int | None, other: Callable[[], None]) -> None:
        super().__init__(bytes_max, free_bytes_min=0)
        self.refused: list[Refused] = []
        self._thread: threading.Thread | None = None
        self._other = other

    def check(self, used: int, more: int, directory: Path, unwritten: int = 0) -> None:
        super().check(used, more, directory, unwritten)
        if self._thread is None:
            self._thread = threading.Thread(target=self._ask)
            self._thread.start()
            self._thread.join(HANGS_S)

    def _ask(self) -> None:
        try:
            self._other()
        except Refused as refused:
            self.refused.append(refused)

    def wait(self) -> None:
        assert self._thread is not None
        self._thread.join()


@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_of_two_at_once_only_one_gets_the_last_room(first: Way, second: Way, tmp_path: Path) -> None:
    stores: list[BlobStore] = []
    quota = HeldUp(QUOTA_BYTES, lambda: second(stores[0], tmp_path, 2))
    stores.append(BlobStore(tmp_path / "blobs", quota=quota))
    first(stores[0], tmp_path, 1)
    quota.wait()
    (refused,) = quota.refused
    assert refused.code == "blob-quota"
    usage = stores[0].usage()
    assert usage.bytes + usage.half_bytes == SIZE
    assert stores[0]._rooms.promised == 0


def test_the_look_and_the_beginning_of_a_fetch_are_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path / "blobs", quota=Quota(QUOTA_BYTES, free_bytes_min=0))
    others: list[threading.Thread] = []
    refused: list[Refused] = []

    def ask() -> None:
        try:
            receive(store, tmp_path, 2)
        except Refused as error:
            refused.append(error)

    def begin_once_another_has_asked(path: Path, size: int) -> None:
        if not others:
            others.append(threading.Thread(target=ask))
            others[0].start()
            others[0].join(HANGS_S)
        begin_half(path, size)

    monkeypatch.setattr(blobs_module, "begin_half", begin_once_another_has_asked)
    receive(store, tmp_path, 1)
    others[0].join()
    assert len(refused) == 1
    assert store.usage().half_bytes == SIZE


def test_what_is_promised_counts_until_it_is_stored_and_never_twice(tmp_path: Path) -> None:
    """A second one that fits beside the first finds room at every moment of the first, and one byte more none."""
    seen: list[tuple[int, int]] = []

    def look(store: BlobStore) -> None:
        seen.append((store._count()[0], store._rooms.promised))

    store = BlobStore(tmp_path / "blobs", quota=Quota(2 * SIZE, free_bytes_min=0))
    (tmp_path / "given").write_bytes(content(1))
    store.take(tmp_path / "given", check_cancelled=partial(look, store))
    assert seen
    assert set(seen) == {(0, SIZE)}
    look(store)
    assert seen[-1] == (SIZE, 0)
    store.put(content(2))


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("way", ["put", "take"])
def test_room_is_given_back_by_who_is_cancelled(way: str, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", quota=Quota(SIZE, free_bytes_min=0))
    file = tmp_path / "file"

    def cancel() -> None:
        assert store._rooms.promised == SIZE
        raise Cancelled

    for _ in range(2):
        file.write_bytes(content(1))
        with pytest.raises(Cancelled):
            getattr(store, way)(file, check_cancelled=cancel)
    assert store._rooms.promised == 0
    store.put(content(2))


def test_two_fetches_of_a_node_that_begin_together_share_its_quota(tmp_path: Path) -> None:
    """One is refused, and when the other is given up there is room again."""

    async def main() -> None:
        disk = FileDisk(tmp_path, quota=Quota(QUOTA_BYTES, free_bytes_min=0))
        begun, refused = [], []

        async def fetch(seed: int) -> None:
            hashes = chunk_hashes_of(content(seed))
            try:
                begun.append(await disk.receive_blob(blob_id_of(hashes, SIZE), hashes, SIZE))
            except Refused as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for seed in range(4):
                nursery.start_soon(fetch, seed)
        assert (len(begun), len(refused)) == (1, 3)
        await begun[0].abandon()
        await fetch(5)
        assert len(begun) == 2
        disk.close()

    trio.run(main)


def test_what_is_still_to_come_of_a_blob_is_room_of_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half blob takes no room on the disk before its chunks come: it is set aside all the same."""
    free = 2 * SIZE + 1000 - 1
    disk = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=100 * free)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    store = BlobStore(tmp_path / "blobs", quota=Quota(free_bytes_min=1000))
    receive(store, tmp_path, 1)
    with pytest.raises(Refused, match="free on the disk"):
        receive(store, tmp_path, 2)
    with pytest.raises(Refused, match="free on the disk"):
        early(store, tmp_path, 2)
    store.delete(blob_id_of(chunk_hashes_of(content(1)), SIZE))
    receive(store, tmp_path, 2)
