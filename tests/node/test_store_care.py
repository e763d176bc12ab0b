"""Copies of a running node's record: what is left of them when something goes wrong, and how many there may be."""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from node.record.record import StoreRecord, open_record
from node.record.store_care import BACKUPS_MAX, StoreCare
from protocol.errors import FednodeError, Refused
from tracker.retention import Kept, remove
from tracker.tables.connect import work_folder
from tracker.tables.rows import LogRow

ROWS = 20_000


@asynccontextmanager
async def a_record(folder: Path) -> AsyncIterator[StoreRecord]:
    """With room in it to give back."""
    record = await open_record(folder / "record.duckdb")
    try:
        record.add(*(LogRow("n", "", "INFO", "l", f"{n * 7919 % 10007} " * 9, 1e9 + n, n) for n in range(ROWS)))
        await record.flush()
        await record.change(lambda connection: remove(connection, "logs", Kept(rows=10), 2e9, ()))
        yield record
    finally:
        await record.close()


def care_of(record: StoreRecord) -> StoreCare:
    async def offload(work: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(work)

    return StoreCare(cast(Any, SimpleNamespace(record=record, trainer=SimpleNamespace(offload=offload))))


def left_of_copies(record: StoreRecord) -> list[str]:
    return sorted(os.listdir(work_folder(record.path)))


async def logs_of(record: StoreRecord) -> int:
    rows = (await record.sql("SELECT count(*) FROM logs", 1))[1]
    return int(rows[0][0])


def in_a_record(folder: Path, story: Callable[[StoreRecord], Awaitable[None]]) -> None:
    async def main() -> None:
        async with a_record(folder) as record:
            await story(record)

    trio.run(main)


def test_a_compaction_that_fails_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story(record: StoreRecord) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            with pytest.raises(FednodeError, match="No space left"):
                await care_of(record).compact()
        assert (left_of_copies(record), await logs_of(record)) == ([], 10)
        done = await care_of(record).compact()
        assert done["bytes_after"] < done["bytes_before"]
        assert (left_of_copies(record), await logs_of(record)) == ([], 10)

    in_a_record(tmp_path, story)


def test_a_compaction_that_is_cancelled_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(record: StoreRecord) -> None:
        async def never(_: Callable[[], None]) -> None:
            assert left_of_copies(record) == ["compacted.duckdb"]
            scope.cancel()
            await trio.sleep_forever()

        with monkeypatch.context() as patched, trio.CancelScope() as scope:
            patched.setattr(record, "_without_readers", never)
            await care_of(record).compact()
        assert (left_of_copies(record), await logs_of(record)) == ([], 10)

    in_a_record(tmp_path, story)


def test_few_backups_are_read_at_once(tmp_path: Path) -> None:
    async def story(record: StoreRecord) -> None:
        care = care_of(record)
        copies = [await care.backup() for _ in range(BACKUPS_MAX)]
        with pytest.raises(Refused) as caught:
            await care.backup()
        assert caught.value.code == "too-many-backups"
        assert left_of_copies(record) == []
        read = [piece async for piece in copies[0].chunks]
        assert sum(map(len, read)) == copies[0].size
        copies[0] = await care.backup()
        with pytest.raises(Refused):
            await care.backup()
        del copies[1]  # its reader has gone before it began
        await care.backup()

    in_a_record(tmp_path, story)
