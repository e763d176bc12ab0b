"""The Record seam on the store: rows are buffered and written in batches by one writer, reads have a cursor each.

DuckDB's work is done in threads: at most one for the writer, a few for readers. Cancelling a read interrupts it.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import trio

from protocol.errors import FednodeError, Refused
from tracker.copies import Compacted, bytes_of, remove_copy, smaller_copy, write_copy
from tracker.imports.merge import Merged, merge
from tracker.queries.reader import Reader
from tracker.retention import Rules
from tracker.store import Store
from tracker.tables.check import Checked
from tracker.tables.connect import work_folder
from tracker.tables.rows import Row

FLUSH_INTERVAL_S = 0.5  # what a crash may cost of the record; metrics, not votes
BATCH_ROWS = 2_000  # the appender is at its best from here on, and a batch takes about 20 ms
PENDING_ROWS_MAX = 200_000  # some 60 MB; reached only while the disk takes nothing
PENDING_CHARACTERS_MAX = 64 * 1024 * 1024  # of the texts in them: lines of a log may be long
RETRY_S = 5.0  # after the disk said no
CLOSE_DEADLINE_S = 10.0  # for the last rows; a disk that is stuck must not keep the node from stopping
READERS_MAX = 2  # at once; each may use the store's whole memory
SQL_DEADLINE_S = 30.0  # for a person's statement
DRAIN_S = 5.0  # readers are waited for so long when the store's file is replaced; longer ones are interrupted
_INTERRUPT_EVERY_S = 0.02

_log = logging.getLogger("fednode.record")
T = TypeVar("T")


class StoreRecord:
    """The node's record, from `open_record`. Keep `run` running, and call `close` at the end. For trio's thread."""

    tells_of_others = True
    trouble = ""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: deque[Row] = deque()
        self._pending_characters = 0
        self._dropped = 0
        self._has_rows = trio.Event()
        self._has_batch = trio.Event()
        self._writing = trio.Lock()
        self._writer = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(READERS_MAX)
        self._reading: set[Reader] = set()

    def add(self, *rows: Row) -> None:
        """Take rows. Beyond PENDING_ROWS_MAX or PENDING_CHARACTERS_MAX, which only a failing disk or somebody hostile
        brings about, rows are dropped and counted."""
        for row in rows:
            characters = self._pending_characters + _characters_of(row)
            if len(self._pending) >= PENDING_ROWS_MAX or characters > PENDING_CHARACTERS_MAX:
                self._dropped += 1
                continue
            self._pending.append(row)
            self._pending_characters = characters
        self._has_rows.set()
        if len(self._pending) >= BATCH_ROWS:
            self._has_batch.set()

    def add_once(self, key: tuple[str | bytes, ...], rows: Callable[[], Sequence[Row]]) -> Sequence[Row]:
        """Take the rows: nobody else writes here."""
        made = rows()
        self.add(*made)
        return made

    async def run(self) -> None:
        """Write what is added, until cancelled. Without rows it sleeps."""
        while True:
            await self._has_rows.wait()
            with trio.move_on_after(FLUSH_INTERVAL_S):
                await self._has_batch.wait()
            try:
                await self.flush()
            except FednodeError as error:
                self._tell_behind(error)
                await trio.sleep(RETRY_S)
            else:
                self._tell_caught_up()

    def _tell_behind(self, error: FednodeError) -> None:
        """Once, however often it is tried."""
        if not self.trouble:
            _log.error(
                "the record takes nothing now; runs go on, and up to %d rows of figures and log lines wait: %s",
                PENDING_ROWS_MAX,
                error,
            )
        self.trouble = f"the record takes nothing now: {error.what}; {error.remedy}"

    def _tell_caught_up(self) -> None:
        if self.trouble:
            lost = f"{self._dropped} rows of figures and log lines were lost" if self._dropped else "nothing was lost"
            _log.warning("the record is written again; %s", lost)
        self.trouble, self._dropped = "", 0

    async def flush(self) -> None:
        """Make all rows added before durable.

        Raises:
            FednodeError: the disk says no. The rows are kept, and the next flush tries again.
        """
        async with self._writing:
            remaining = len(self._pending)
            while remaining > 0:
                remaining -= await self._write_batch(min(remaining, BATCH_ROWS))
            # One that is not set stays: `run` may be waiting for it.
            if not self._pending and self._has_rows.is_set():
                self._has_rows = trio.Event()
            if len(self._pending) < BATCH_ROWS and self._has_batch.is_set():
                self._has_batch = trio.Event()

    async def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """A named query of tracker.queries.queries, over what has been flushed.

        Raises:
            FednodeError: there is no such query, or its parameters are wrong.
        """
        return await self._read(lambda reader: reader.query(name, parameters))

    async def sql(self, statement: str, rows_max: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        """A person's read-only statement: columns, rows, and whether rows were cut off.

        Raises:
            Refused: it does more than read, is wrong, or takes longer than SQL_DEADLINE_S.
        """
        with trio.move_on_after(SQL_DEADLINE_S):
            return await self._read(lambda reader: reader.sql(statement, rows_max))
        raise Refused(
            "sql-too-slow",
            f"The statement took longer than {SQL_DEADLINE_S:.0f} seconds",
            remedy="ask for less at once",
        )

    async def look_through(self) -> Checked:
        """Read all of it, and say what is wrong. Raises Refused when it outgrew its memory."""
        return await self._read(Reader.check)

    async def models_named(self) -> list[dict[str, Any]]:
        """The blobs that are named as models or artifacts."""
        return await self._read(Reader.models_named)

    async def change(self, work: Callable[[Any], T]) -> T:
        """As tracker.store.Store.change, in the writer's thread. Reads go on meanwhile."""
        async with self._writing:
            return await trio.to_thread.run_sync(self._store.change, work, limiter=self._writer)

    async def merge(self, staged: Path, rules: Rules, now: float) -> Merged:
        """As tracker.imports.merge.merge, in the writer's thread. Reads go on meanwhile."""
        async with self._writing:
            work = partial(merge, self._store, staged, rules, now)
            return await trio.to_thread.run_sync(work, limiter=self._writer)

    async def write_copy(self, name: str) -> Path:
        """A copy of the whole record in the work folder, durable, for the caller to delete. Rows that come meanwhile
        wait; reads go on. Raises FednodeError when the disk says no."""
        await self.flush()
        async with self._writing:
            target = work_folder(self.path) / name
            work = partial(write_copy, self._store, target, is_backup=True)
            await trio.to_thread.run_sync(work, limiter=self._writer)
            return target

    async def compact(self) -> Compacted:
        """Give the disk back what the store does not need: a copy takes its place. Reads wait for the moment that this
        takes; one that lasts longer than DRAIN_S is interrupted. Raises FednodeError when the disk says no."""
        async with self._writing:
            before = bytes_of(self.path)
            copy = await trio.to_thread.run_sync(smaller_copy, self._store, limiter=self._writer)
            if copy is None:
                return Compacted(before, before)
            try:
                await self._without_readers(partial(self._store.replace_file, copy))
            finally:
                remove_copy(copy)
            return Compacted(before, bytes_of(self.path))

    @property
    def path(self) -> Path:
        assert self._store.path is not None  # a node's record is in a file
        return self._store.path

    async def _without_readers(self, work: Callable[[], None], drain_s: float = DRAIN_S) -> None:
        """Do `work` in the writer's thread while no cursor is open; who wants to read waits, and who reads for longer
        than `drain_s` is interrupted."""
        places = [object() for _ in range(READERS_MAX)]
        held = []
        try:
            with trio.move_on_after(drain_s):
                for place in places:
                    await self._readers.acquire_on_behalf_of(place)
                    held.append(place)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._interrupt_all)
                for place in places[len(held) :]:
                    await self._readers.acquire_on_behalf_of(place)
                    held.append(place)
                nursery.cancel_scope.cancel()
            await trio.to_thread.run_sync(work, limiter=self._writer)
        finally:
            for place in held:
                self._readers.release_on_behalf_of(place)

    async def _interrupt_all(self) -> None:
        while True:
            for reader in list(self._reading):
                reader.interrupt()
            await trio.sleep(_INTERRUPT_EVERY_S)

    async def close(self) -> None:
        """Write what is left, even where the caller is cancelled, and close the store. Reads are interrupted: the API,
        which may still be answering, ends later."""
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_DEADLINE_S, shield=True):
            try:
                await self.flush()
            except FednodeError as error:
                _log.error("%d rows of the record were lost: %s", len(self._pending), error)
            await self._without_readers(self._store.close, drain_s=0)

    async def _write_batch(self, count: int) -> int:
        """Write the oldest `count` rows. They leave the buffer only once they are durable."""
        batch = list(itertools.islice(self._pending, count))
        # Never abandoned on cancellation: a batch that has begun is written, and is then not written again.
        await trio.to_thread.run_sync(self._store.write, batch, limiter=self._writer)
        for _ in batch:
            self._pending_characters -= _characters_of(self._pending.popleft())
        return count

    async def _read(self, work: Callable[[Reader], T]) -> T:
        opened: list[Reader] = []
        done = trio.Event()

        def attempt() -> tuple[T | None, FednodeError | None]:
            try:
                # Opened here, and closed here: whoever holds all places of the readers knows that none is open.
                opened.append(reader := self._store.reader())
                self._reading.add(reader)
                try:
                    return work(reader), None
                finally:
                    self._reading.discard(reader)
                    reader.close()
            except FednodeError as error:  # handed over as a value: what passes a nursery comes out as a group
                return None, error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_interrupt_when_cancelled, opened, done)
            try:
                result, error = await trio.to_thread.run_sync(attempt, limiter=self._readers)
            finally:
                done.set()
            nursery.cancel_scope.cancel()
        # Where we were cancelled, that goes before the interruption which it caused.
        await trio.lowlevel.checkpoint()
        if error is not None:
            raise error
        return cast(T, result)


def _characters_of(row: Row) -> int:
    values = (getattr(row, name) for name in getattr(row, "__slots__", ()))
    return sum(len(value) for value in values if isinstance(value, str))


async def open_record(path: Path) -> StoreRecord:
    """The record in the store at `path`.

    Raises:
        FednodeError: another process holds the store, it is damaged, or it is of a newer fednode.
    """
    return StoreRecord(await trio.to_thread.run_sync(Store, path))


async def _interrupt_when_cancelled(opened: list[Reader], done: trio.Event) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            # Again and again: an interruption that comes before the statement has begun is lost.
            while not done.is_set():
                for reader in opened:
                    reader.interrupt()
                await trio.sleep(_INTERRUPT_EVERY_S)
        raise
