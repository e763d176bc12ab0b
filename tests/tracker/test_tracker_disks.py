"""What only one of the two disks does: files and threads, or crashes in memory. See also the conformance suite."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from node.home.disk import FileDisk
from protocol.errors import FednodeError
from protocol.limits import CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# --- the real one ------------------------------------------------------------------------------------------


def test_a_put_that_is_cancelled_leaves_all_or_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FileDisk(tmp_path / "home")
        source = tmp_path / "source"
        source.write_bytes(content(CHUNK_BYTES) * 40)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.put_blob, source)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        left = [path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()]
        for blob in disk.blobs.blobs():
            disk.blobs.verify(blob)
        assert len(left) in (0, 2)

    trio.run(main)


def test_more_journals_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.home.disk.JOURNALS_OPEN_MAX", 3)

    async def main() -> None:
        disk = FileDisk(tmp_path)
        for turn in range(3):
            for number in range(8):
                await disk.append(f"votes/{number}", b"%d" % turn)
        assert [await disk.records(f"votes/{number}") for number in range(8)] == [[b"0", b"1", b"2"]] * 8
        disk.close()
        assert await disk.records("votes/1") == [b"0", b"1", b"2"]

    trio.run(main)


def test_what_a_killed_writer_left_is_removed_and_files_are_the_owners(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FileDisk(tmp_path / "home")
        await disk.write("keys/node.key", b"secret")
        await disk.append("votes/run", b"x")
        leftover = tmp_path / "home" / "keys" / ".new-abc"
        leftover.write_bytes(b"half a key")
        FileDisk(tmp_path / "home")
        assert not leftover.exists()
        for path in (tmp_path / "home").rglob("*"):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)

    trio.run(main)


def test_what_the_disk_says_comes_as_an_error_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FileDisk(tmp_path / "home")
        await disk.write("file", b"x")
        (tmp_path / "home" / "journals" / "directory").mkdir()
        for call in (
            lambda: disk.write("file/below", b"x"),
            lambda: disk.append("directory", b"x"),
            lambda: disk.records("directory"),
        ):
            with pytest.raises(FednodeError, match="could not"):
                await call()

    trio.run(main)


# --- the simulated one -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_leaves_each_write_whole_or_not_at_all(seed: int) -> None:
    """What was under way may be there or not; what had returned is there."""

    async def main() -> None:
        disk = SimulatedDisk(randomness=random.Random(seed), write_latency_s=1.0)
        await disk.write("file", b"old")
        await disk.append("log", b"old")
        errors: list[FednodeError] = []

        async def under_way(call: Callable[[], Awaitable[object]]) -> None:
            try:
                await call()
            except FednodeError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(under_way, lambda: disk.write("file", b"new"))
            nursery.start_soon(under_way, lambda: disk.append("log", b"new"))
            nursery.start_soon(under_way, lambda: disk.put_blob(b"blob"))
            await trio.testing.wait_all_tasks_blocked()
            disk.crash()
        assert len(errors) == 3
        assert await disk.read("file") in (b"old", b"new")
        assert await disk.records("log") in ([b"old"], [b"old", b"new"])
        blob = blob_id_of(chunk_hashes_of(b"blob"), 4)
        assert not await disk.has_blob(blob) or await disk.read_blob(blob) == b"blob"
        await disk.append("log", b"later")
        assert (await disk.records("log"))[-1] == b"later"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_simulated_disks_share_what_they_verified() -> None:
    async def main() -> None:
        one = SimulatedDisk()
        other = SimulatedDisk(pool=one.pool)
        data = content(CHUNK_BYTES + 1)
        blob = await one.put_blob(data)
        reader = await one.open_blob(blob)
        writer = await other.receive_blob(blob, reader.chunk_hashes, reader.size)
        for index in writer.missing():
            await writer.write_chunk(index, await reader.chunk(index))
        await writer.finish()
        assert await other.read_blob(blob) == data
        assert one.pool.remembered == 6

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
