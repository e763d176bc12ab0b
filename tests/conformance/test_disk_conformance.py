"""What every Disk promises, asked of both: files and threads, and the simulated one in memory."""

import errno
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.home.disk import FileDisk
from node.seams import Disk
from protocol.errors import FednodeError, LocalProtocolError, Refused, RemoteProtocolError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.blobs.quota import Quota


class FilePlace:
    """A real disk, and the ways to hurt it."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.disk = FileDisk(self.home)

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        trio.run(test)

    def restart(self) -> Disk:
        self.disk = FileDisk(self.home)
        return self.disk

    def damage_blob(self, blob: BlobId, index: int) -> None:
        flip(self.home / "blobs" / "whole" / blob, index * CHUNK_BYTES)

    def damage_journal(self, journal: str, offset: int) -> None:
        flip(self.home / "journals" / journal, offset)


class SimulatedPlace:
    """A simulated disk; a restart is a crash."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(randomness=random.Random(1))

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))

    def restart(self) -> Disk:
        self.disk.crash()
        return self.disk

    def damage_blob(self, blob: BlobId, index: int) -> None:
        self.disk.damage_blob(blob, index)

    def damage_journal(self, journal: str, offset: int) -> None:
        self.disk.damage_journal(journal, offset)


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


@pytest.fixture(params=["file", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> FilePlace | SimulatedPlace:
    return FilePlace(tmp_path) if request.param == "file" else SimulatedPlace()


Place = Any
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 7]


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def chunks_of(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]


def test_small_files(place: Place) -> None:
    async def main() -> None:
        disk = place.disk
        assert await disk.read("keys/node.key") is None
        await disk.write("keys/node.key", b"one")
        await disk.write("keys/node.key", b"two")
        await disk.write("plain", b"")
        await disk.delete("never-there/at-all")
        disk = place.restart()
        assert await disk.read("keys/node.key") == b"two"
        assert await disk.read("plain") == b""
        await disk.delete("keys/node.key")
        assert await place.restart().read("keys/node.key") is None

    place.run(main)


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.x", "a\0b", "a b", "ä", "x" * 201, "a\n"]
)
def test_names_that_could_leave_the_folder_are_refused(place: Place, name: str) -> None:
    async def main() -> None:
        for call in (
            lambda: place.disk.read(name),
            lambda: place.disk.write(name, b""),
            lambda: place.disk.delete(name),
            lambda: place.disk.append(name, b""),
            lambda: place.disk.records(name),
        ):
            with pytest.raises(Refused) as refused:
                await call()
            assert refused.value.code == "bad-name"

    place.run(main)


@pytest.mark.parametrize("name", ["journals/x", "blobs/whole/x"])
def test_small_files_stay_out_of_the_disks_own_folders(place: Place, name: str) -> None:
    async def main() -> None:
        with pytest.raises(Refused):
            await place.disk.write(name, b"")

    place.run(main)


def test_a_journal_keeps_its_records_in_order(place: Place) -> None:
    async def main() -> None:
        records = [b"", b"a", b"\xf5JR\x01" * 3, content(70_000)]
        assert await place.disk.records("votes/run-1") == []
        for record in records:
            await place.disk.append("votes/run-1", record)
        await place.disk.append("votes/run-2", b"other")
        disk = place.restart()
        assert await disk.records("votes/run-1") == records
        await disk.append("votes/run-1", b"after")
        assert await place.restart().records("votes/run-1") == [*records, b"after"]
        assert await place.disk.records("votes/run-2") == [b"other"]

    place.run(main)


def test_a_record_is_read_by_its_number(place: Place) -> None:
    async def test() -> None:
        assert await place.disk.record("log", 0) is None
        written = [b"first", b"", b"x" * 100_000]
        for record in written:
            await place.disk.append("log", record)
        disk = place.restart()
        await disk.append("log", b"after the restart")
        assert [await disk.record("log", index) for index in range(6)] == [*written, b"after the restart", None, None]

    place.run(test)


def test_a_journals_torn_tail_is_cut_off_for_good(place: Place) -> None:
    async def main() -> None:
        for record in (b"first", b"second"):
            await place.disk.append("votes", record)
        place.damage_journal("votes", -1)
        disk = place.restart()
        assert await disk.records("votes") == [b"first"]
        await disk.append("votes", b"third")
        assert await place.restart().records("votes") == [b"first", b"third"]

    place.run(main)


def test_damage_in_a_journals_middle_is_an_error_not_a_loss(place: Place) -> None:
    async def main() -> None:
        for record in (b"first", b"second", b"third"):
            await place.disk.append("votes", record)
        place.damage_journal("votes", 17)
        disk = place.restart()
        for call in (lambda: disk.records("votes"), lambda: disk.append("votes", b"x")):
            with pytest.raises(FednodeError, match="damaged"):
                await call()

    if isinstance(place, SimulatedPlace):
        # Without the random tail of a crash, which would make the damage the tail's.
        place.restart = lambda: place.disk  # type: ignore[method-assign]
    place.run(main)


def test_a_record_over_the_limit_is_refused(place: Place) -> None:
    async def main() -> None:
        with pytest.raises(FednodeError, match="over the limit"):
            await place.disk.append("votes", bytes(16 * 1024 * 1024 + 1))
        assert await place.disk.records("votes") == []

    place.run(main)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_blob_comes_out_as_it_went_in(place: Place, size: int, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        data = content(size)
        source = tmp_path / "source"
        source.write_bytes(data)
        blob = await place.disk.put_blob(data if kind == "bytes" else source)
        assert blob == blob_id_of(chunk_hashes_of(data), size)
        disk = place.restart()
        assert await disk.has_blob(blob)
        assert await disk.read_blob(blob) == data
        reader = await disk.open_blob(blob)
        assert reader.size == size
        assert list(reader.chunk_hashes) == chunk_hashes_of(data)
        assert [await reader.chunk(i) for i in range(len(reader.chunk_hashes))] == chunks_of(data)
        assert await disk.put_blob(data) == blob
        await disk.delete_blob(blob)
        assert not await disk.has_blob(blob)
        with pytest.raises(FednodeError, match=blob):
            await disk.open_blob(blob)
        if size:
            with pytest.raises(FednodeError, match=blob):
                await reader.chunk(0)

    place.run(main)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_given_away_is_a_blob_or_nothing(place: Place, size: int, tmp_path: Path) -> None:
    async def main() -> None:
        data, file = content(size), tmp_path / "given"
        blob = blob_id_of(chunk_hashes_of(data), size)
        file.write_bytes(data)
        other = await place.disk.take_blob(file, only_as=BlobId("0" * 64))
        assert (other.blob, other.is_new, file.exists()) == (blob, False, False)
        assert not await place.disk.has_blob(blob)
        for is_new, may_change in ((True, True), (False, False)):
            file.write_bytes(data)
            taken = await place.disk.take_blob(file, may_change=may_change, only_as=blob)
            assert (taken.blob, taken.is_new, file.exists()) == (blob, is_new, False)
        assert await place.restart().read_blob(blob) == data
        file.symlink_to(place.home if isinstance(place, FilePlace) else tmp_path)
        with pytest.raises(FednodeError):
            await place.disk.take_blob(file)
        with pytest.raises(FednodeError):
            await place.disk.take_blob(tmp_path / "nowhere")

    place.run(main)


def test_a_missing_source_is_an_error_of_ours(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FednodeError, match="nowhere"):
            await place.disk.put_blob(tmp_path / "nowhere")

    place.run(main)


@pytest.mark.parametrize("size", SIZES)
def test_a_blob_is_received_in_any_order(place: Place, size: int) -> None:
    async def main() -> None:
        data = content(size)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, size)
        writer = await place.disk.receive_blob(blob, hashes, size)
        assert writer.missing() == list(range(len(hashes)))
        for index in reversed(writer.missing()):
            assert not await place.disk.has_blob(blob)
            with pytest.raises(LocalProtocolError):
                await writer.finish()
            await writer.write_chunk(index, chunks_of(data)[index])
        assert not await place.disk.has_blob(blob)
        await writer.finish()
        await writer.finish()
        disk = place.restart()
        assert await disk.read_blob(blob) == data
        again = await disk.receive_blob(blob, hashes, size)
        assert again.missing() == []
        await again.finish()
        await again.abandon()
        assert await disk.read_blob(blob) == data

    place.run(main)


def test_what_has_come_of_a_half_blob_can_be_read(place: Place) -> None:
    async def main() -> None:
        data = content(2 * CHUNK_BYTES + 5)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        writer = await place.disk.receive_blob(blob, hashes, len(data))
        with pytest.raises(FednodeError):
            await writer.chunk(1)
        for index in (2, 1):
            await writer.write_chunk(index, chunks_of(data)[index])
            assert await writer.chunk(index) == chunks_of(data)[index]
        again = await place.disk.receive_blob(blob, hashes, len(data))
        assert await again.chunk(1) == chunks_of(data)[1]
        with pytest.raises(FednodeError):
            await again.chunk(0)
        await again.write_chunk(0, chunks_of(data)[0])
        await again.finish()
        with pytest.raises(FednodeError):  # it is no half any more
            await again.chunk(0)

    place.run(main)


def test_what_does_not_have_the_promised_hash_is_refused(place: Place) -> None:
    async def main() -> None:
        data = content(CHUNK_BYTES + 5)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        writer = await place.disk.receive_blob(blob, hashes, len(data))
        first, last = chunks_of(data)
        wrong = bytes([last[0] ^ 1]) + last[1:]
        for index, chunk in [(1, wrong), (1, last + b"\0"), (1, b""), (0, last), (1, first), (2, last), (-1, last)]:
            with pytest.raises(RemoteProtocolError):
                await writer.write_chunk(index, chunk)
        assert writer.missing() == [0, 1]
        await writer.write_chunk(0, first)
        await writer.write_chunk(1, last)
        await writer.finish()
        assert await place.disk.read_blob(blob) == data

    place.run(main)


def test_a_chunk_list_that_is_not_the_blobs_is_refused(place: Place) -> None:
    async def main() -> None:
        data = content(CHUNK_BYTES + 5)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        for wrong_blob, wrong_hashes, size in [
            (blob, hashes, len(data) - 1),
            (blob, hashes[::-1], len(data)),
            (blob, hashes[:1], len(data)),
            (blob, [hashes[0] + hashes[1]], len(data)),
            (blob, hashes, -1),
            (blob, hashes, 2**60),
            (BlobId("../" + blob[3:]), hashes, len(data)),
            (BlobId(blob.upper()), hashes, len(data)),
        ]:
            with pytest.raises(RemoteProtocolError):
                await place.disk.receive_blob(wrong_blob, wrong_hashes, size)

    place.run(main)


def test_a_half_blob_is_taken_up_where_it_stopped_or_forgotten(place: Place) -> None:
    async def main() -> None:
        data = content(3 * CHUNK_BYTES)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        writer = await place.disk.receive_blob(blob, hashes, len(data))
        await writer.write_chunk(1, chunks_of(data)[1])
        writer = await place.disk.receive_blob(blob, hashes, len(data))
        assert writer.missing() == [0, 2]
        await writer.abandon()
        writer = await place.disk.receive_blob(blob, hashes, len(data))
        assert writer.missing() == [0, 1, 2]
        for index in (0, 2):
            await writer.write_chunk(index, chunks_of(data)[index])
        disk = place.restart()
        assert not await disk.has_blob(blob)
        writer = await disk.receive_blob(blob, hashes, len(data))
        assert 1 in writer.missing()
        for index in writer.missing():
            await writer.write_chunk(index, chunks_of(data)[index])
        await writer.finish()
        assert await place.restart().read_blob(blob) == data

    place.run(main)


def test_a_damaged_chunk_is_found_when_it_is_read_and_fetched_again_alone(place: Place) -> None:
    async def main() -> None:
        data = content(2 * CHUNK_BYTES)
        blob = await place.disk.put_blob(data)
        for read in (lambda opened: opened.chunk(1), lambda _: place.disk.read_blob(blob)):
            reader = await place.disk.open_blob(blob)
            place.damage_blob(blob, 1)
            assert await reader.chunk(0) == data[:CHUNK_BYTES]
            with pytest.raises(FednodeError, match=f"{blob}.*damaged"):
                await read(reader)
            assert not await place.disk.has_blob(blob)
            writer = await place.disk.receive_blob(blob, reader.chunk_hashes, len(data))
            assert writer.missing() == [1]
            await writer.write_chunk(1, data[CHUNK_BYTES:])
            await writer.finish()
            assert await place.disk.read_blob(blob) == data

    place.run(main)


def test_what_is_read_piece_by_piece_is_verified_too(place: Place) -> None:
    async def main() -> None:
        data = content(2 * CHUNK_BYTES)
        blob = await place.disk.put_blob(data)
        for disk in (place.disk, place.restart()):
            await disk.blob_data(blob)
            place.damage_blob(blob, 1)
            with pytest.raises(FednodeError, match=f"{blob}.*damaged"):
                await disk.blob_data(blob)
            assert await disk.put_blob(data) == blob
            assert await disk.read_blob(blob) == data

    place.run(main)


def test_two_transfers_of_one_blob_do_not_hurt_each_other(place: Place) -> None:
    async def main() -> None:
        data = content(2 * CHUNK_BYTES)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        one = await place.disk.receive_blob(blob, hashes, len(data))
        other = await place.disk.receive_blob(blob, hashes, len(data))
        for index, chunk in enumerate(chunks_of(data)):
            await one.write_chunk(index, chunk)
            await other.write_chunk(index, chunk)
        await one.finish()
        await other.finish()
        assert await place.restart().read_blob(blob) == data

    place.run(main)


def test_many_at_once(place: Place) -> None:
    async def main() -> None:
        async def append(number: int) -> None:
            await place.disk.append("log", b"%d" % number)
            await place.disk.write(f"files/{number}", b"%d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(append, number)
        disk = place.restart()
        assert sorted(await disk.records("log")) == sorted(b"%d" % number for number in range(40))
        assert [await disk.read(f"files/{number}") for number in range(40)] == [b"%d" % n for n in range(40)]

    place.run(main)


def test_what_is_stored_is_listed_and_what_is_old_can_be_discarded(place: Place) -> None:
    """Whole blobs and half ones. One that was stored, or asked for, within the given time stays."""

    async def main() -> None:
        disk = place.disk
        whole = [await disk.put_blob(content(size)) for size in (10, CHUNK_BYTES + 1)]
        data = content(2 * CHUNK_BYTES)
        half = blob_id_of(chunk_hashes_of(data), len(data))
        writer = await disk.receive_blob(half, chunk_hashes_of(data), len(data))
        await writer.write_chunk(0, chunks_of(data)[0])
        listed = {entry.blob: entry for entry in await disk.stored_blobs()}
        assert listed.keys() == {*whole, half}
        assert listed[whole[1]].bytes == CHUNK_BYTES + 1
        assert listed[half].bytes >= CHUNK_BYTES
        assert all(entry.unused_s < 60 for entry in listed.values())
        for blob in listed:
            assert await disk.discard_blob(blob, 3600.0) == 0
        assert await disk.has_blob(whole[0])
        # Older than a second before now is nothing yet; older than a second from now is everything.
        assert await disk.discard_blob(whole[0], -1.0) == 10
        assert await disk.discard_blob(whole[0], -1.0) == 0
        assert await disk.discard_blob(half, -1.0) >= CHUNK_BYTES
        assert not await disk.has_blob(whole[0])
        assert [entry.blob for entry in await place.restart().stored_blobs()] == [whole[1]]

    place.run(main)


def test_what_came_before_its_name_is_a_half_of_it_as_far_as_it_fits(place: Place) -> None:
    """docs/protocol.md §8.29. It is no blob's before, and never of two."""
    data = content(3 * CHUNK_BYTES + 7)
    blob, hashes, chunks = blob_id_of(chunk_hashes_of(data), len(data)), chunk_hashes_of(data), chunks_of(data)

    async def main() -> None:
        disk = place.disk
        early = await disk.receive_early(len(data))
        for index, chunk in ((3, chunks[3]), (0, chunks[0]), (1, bytes(CHUNK_BYTES))):
            await early.write_chunk(index, chunk)
        assert not await disk.has_blob(blob)
        assert not await disk.stored_blobs()
        await early.become(blob)
        writer = await disk.receive_blob(blob, hashes, len(data))
        assert writer.missing() == [1, 2], "what does not fit is fetched again"
        for index in (1, 2):
            await writer.write_chunk(index, chunks[index])
        await writer.finish()
        assert await disk.read_blob(blob) == data

    place.run(main)


def test_what_came_early_takes_no_blobs_place_and_is_gone_when_it_is_given_up(place: Place) -> None:
    data = content(2 * CHUNK_BYTES)
    blob, hashes, chunks = blob_id_of(chunk_hashes_of(data), len(data)), chunk_hashes_of(data), chunks_of(data)

    async def main() -> None:
        disk = place.disk
        writer = await disk.receive_blob(blob, hashes, len(data))
        await writer.write_chunk(0, chunks[0])
        liar, abandoned, forgotten = [await disk.receive_early(len(data)) for _ in range(3)]
        for early in (liar, abandoned, forgotten):
            await early.write_chunk(0, bytes(CHUNK_BYTES))
        await liar.become(blob)
        assert (await disk.receive_blob(blob, hashes, len(data))).missing() == [1]
        await abandoned.abandon()
        await writer.write_chunk(1, chunks[1])
        await writer.finish()
        restarted = place.restart()
        assert await restarted.read_blob(blob) == data
        assert [entry.blob for entry in await restarted.stored_blobs()] == [blob]
        if isinstance(restarted, FileDisk):
            assert restarted.blobs.usage().half_bytes == 0

    place.run(main)


@pytest.mark.parametrize(("index", "length"), [(0, 7), (1, CHUNK_BYTES), (1, 8), (2, 7), (2, 0), (-1, 7), (0, 0)])
def test_what_came_early_is_never_longer_than_it_was_to_be(place: Place, index: int, length: int) -> None:
    """docs/protocol.md §8.29"""

    async def main() -> None:
        early = await place.disk.receive_early(CHUNK_BYTES + 7)
        with pytest.raises(RemoteProtocolError):
            await early.write_chunk(index, bytes(length))

    place.run(main)


def test_what_came_early_is_taken_up_where_files_have_one_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/protocol.md §8.29. Not every file system has links; nothing stays behind there either."""
    data = content(2 * CHUNK_BYTES)
    blob, hashes, chunks = blob_id_of(chunk_hashes_of(data), len(data)), chunk_hashes_of(data), chunks_of(data)

    def link(*names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    disk = FileDisk(tmp_path / "home", quota=Quota(free_bytes_min=0))

    async def main() -> None:
        first, second = [await disk.receive_early(len(data)) for _ in range(2)]
        await first.write_chunk(0, chunks[0])
        await second.write_chunk(0, bytes(CHUNK_BYTES))
        await first.become(blob)
        await second.become(blob)
        assert disk.blobs.usage().half_bytes == len(data)
        assert (await disk.receive_blob(blob, hashes, len(data))).missing() == [1]

    trio.run(main)


def test_what_comes_early_counts_in_the_quota(tmp_path: Path) -> None:
    """docs/protocol.md §8.29"""
    disk = FileDisk(tmp_path / "home", quota=Quota(3 * CHUNK_BYTES, free_bytes_min=0))

    async def main() -> None:
        first = await disk.receive_early(2 * CHUNK_BYTES)
        with pytest.raises(Refused):
            await disk.receive_early(2 * CHUNK_BYTES)
        with pytest.raises(Refused):
            await disk.put_blob(content(2 * CHUNK_BYTES))
        await first.abandon()
        await disk.put_blob(content(2 * CHUNK_BYTES))

    trio.run(main)
