"""The record's disk fails while the node goes on: rows wait, people are told once, and all is written later."""

import logging
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from node.record.record import RETRY_S, StoreRecord, open_record
from protocol.errors import FednodeError
from tracker.store import Store
from tracker.tables.rows import LogRow

DEADLINE_S = 60
FULL_BYTES = 17_500_000  # DuckDB folds its journal of 16 MiB into its file, which takes more than this then
ROWS = 1000


def lines(first: int, count: int, characters: int = 100) -> list[LogRow]:
    """Lines that cannot be compressed, numbered from `first`."""
    text = Random(first)
    return [
        LogRow("node", "run", "INFO", "x", text.randbytes(characters // 2).hex(), 1.7e9, first + number)
        for number in range(count)
    ]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """This process's files cannot grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def counted(store: Store) -> int:
    reader = store.reader()
    try:
        return int(reader.sql("SELECT count(*) FROM logs", 1)[1][0][0])
    finally:
        reader.close()


def test_a_store_whose_journal_could_not_be_folded_in_is_opened_again_by_itself(tmp_path: Path) -> None:
    """DuckDB gives up for good then ("database has been invalidated"); nothing written before is lost."""
    store = Store(tmp_path / "store.duckdb")
    written, failure = 0, ""
    with files_no_larger_than(FULL_BYTES):
        while written < 100 * ROWS and not failure:
            try:
                written += store.write(lines(written, ROWS, 800))
            except FednodeError as error:
                failure = error.what
    assert "could not be written" in failure
    with pytest.raises(FednodeError, match="is shut since its disk failed"):
        store.reader()
    store.write(lines(written, ROWS))
    assert counted(store) == written + ROWS
    store.close()


def in_record(directory: Path, body: Callable[[StoreRecord], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(DEADLINE_S):
            record = await open_record(directory / "store.duckdb")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record.run)
                await body(record)
                nursery.cancel_scope.cancel()
            await record.close()

    trio.run(main)


def test_a_full_disk_is_told_once_and_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("node.record.record.RETRY_S", RETRY_S / 100)
    tries = []
    honest = Store.write

    def write(self: Store, rows: list[LogRow]) -> int:
        tries.append(len(rows))
        return honest(self, rows)

    monkeypatch.setattr(Store, "write", write)

    async def body(record: StoreRecord) -> None:
        record.add(*lines(0, 10))
        await record.flush()
        size = max(path.stat().st_size for path in tmp_path.iterdir())
        with files_no_larger_than(size + 1000):
            record.add(*lines(10, 1000))
            while len(tries) < 4:
                await trio.lowlevel.checkpoint()
            assert "make room on its disk" in record.trouble
            assert len(await record.query("logs_tail", run_id="run", limit=5000)) == 10
        while record.trouble:
            await trio.lowlevel.checkpoint()
        assert len(await record.query("logs_tail", run_id="run", limit=5000)) == 1010

    with caplog.at_level(logging.WARNING, "fednode.record"):
        in_record(tmp_path, body)
    told = [entry.getMessage() for entry in caplog.records if entry.name == "fednode.record"]
    assert [text.split(";")[0] for text in told] == ["the record takes nothing now", "the record is written again"]
    assert told[1].endswith("nothing was lost")


def test_rows_are_written_by_themselves_after_somebody_has_flushed_nothing(tmp_path: Path) -> None:
    """Every question to the node flushes; with nothing to flush it must not take away what the writer waits for."""

    async def body(record: StoreRecord) -> None:
        record.add(*lines(0, 1))
        while not await record.query("logs_tail", run_id="run", limit=10):
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        await record.flush()
        record.add(*lines(1, 1))
        while len(await record.query("logs_tail", run_id="run", limit=10)) < 2:
            await trio.lowlevel.checkpoint()

    in_record(tmp_path, body)
