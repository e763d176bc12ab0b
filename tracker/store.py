"""The record in one DuckDB file: what goes in, once and whole. What comes out is in `tracker.queries.reader`.

Synchronous and for one thread at a time; `node.record.record` keeps it off the event loop. Batches go through DuckDB's
appender, a transaction each (a single row of its own costs three orders of magnitude more).
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from protocol.errors import FednodeError
from tracker.durable import disk_errors, sync, sync_directory
from tracker.queries.reader import Reader
from tracker.retention import was_removed
from tracker.tables.connect import DAMAGED_REMEDY, connect, first_line, work_folder
from tracker.tables.rows import Row, utc
from tracker.tables.schema import TABLES, Table, check_version, migrate, version_of

T = TypeVar("T")

Key = tuple[Any, ...]  # an event's source, of one or two columns, and its sequence
Source = tuple[Any, ...]

_log = logging.getLogger("fednode.tracker")

# What a single row can be blamed for: a number over 64 bits, half a surrogate pair, a time that is none.
_ROW_ERRORS = (
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
    duckdb.OutOfRangeException,
    TypeError,
    ValueError,
    OverflowError,
    OSError,
)


@dataclass(slots=True)
class _Batch:
    """Rows of one table, ready to be written, and what is known once they are."""

    table: Table
    values: list[tuple[Any, ...]]
    marks: dict[Source, int]


class Store:
    """The record of one node.

    Args:
        path: the file, made when missing; None for a store in memory.
        read_only: for the file of a node that is stopped.

    Raises:
        FednodeError: the file is in use (by whom is said), is no store, or is of a newer fednode.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._given_up = ""  # why DuckDB takes nothing more until it is opened anew
        self._open()
        if path is not None and not read_only:
            shutil.rmtree(work_folder(path), ignore_errors=True)  # what a killed process left of its copies

    def _open(self) -> None:
        path, read_only = self.path, self._read_only
        place = str(path) if path else "in memory"
        self._connection = connect(path, read_only=read_only)
        try:
            if read_only:
                check_version(version_of(self._connection), place, read_only=True)
            else:
                is_new = not version_of(self._connection)
                migrate(self._connection, place)
                self._mark_beginning(is_new)
            # Cursors are made from a connection that never runs a statement, so making one never waits for a write.
            self._root = self._connection.cursor()
            self._learn()
        except duckdb.Error as error:
            self._connection.close()
            raise FednodeError(
                f"The store {place} is damaged: {first_line(str(error))}",
                remedy=DAMAGED_REMEDY,
            ) from error
        except BaseException:
            self._connection.close()
            raise

    def _mark_beginning(self, is_new: bool) -> None:
        """What a store that is new, or a copy of another, does not know of may be missing from it alone."""
        now = datetime.now(UTC).replace(tzinfo=None)
        if is_new:
            self._connection.execute("INSERT INTO store_marks VALUES ('whole_since', ?)", [now])
        else:
            self._connection.execute(
                "UPDATE store_marks SET time = ? WHERE name = 'whole_since' AND time IS NULL", [now]
            )

    def _learn(self) -> None:
        """Look up what writing needs to know of what is stored."""
        self._marks = {table.name: self._highest(table) for table in _event_tables()}
        self._positions = {table.name: self._next_position(table) for table in _event_tables()}
        marks = self._connection.execute("SELECT name, time FROM store_marks WHERE starts_with(name, 'removed ')")
        self._removed = {name.removeprefix("removed "): time for name, time in marks.fetchall()}

    def write(self, rows: Sequence[Row]) -> int:
        """Add rows, durably; events that are here already are passed over. Gives how many were added or replaced.

        All or nothing, except that a row which cannot be stored at all is left out with a warning.

        Raises:
            FednodeError: the disk says no. Nothing was added; the same call can be made again.
        """
        self._check_writable()
        try:
            return self._write_all(rows)
        except duckdb.FatalException as error:
            self._give_up(first_line(str(error)))
            raise self._not_written(error) from error
        except _ROW_ERRORS as error:
            if len(rows) > 1:
                half = len(rows) // 2
                return self.write(rows[:half]) + self.write(rows[half:])
            _log.warning("left out of the record: %.200r: %s", rows[0], first_line(str(error)))
            return 0
        except duckdb.Error as error:
            raise self._not_written(error) from error

    def change(self, work: Callable[[Any], T]) -> T:
        """Change what is stored by `work`, which is given the connection: for the other files of this room.

        All or nothing. Raises FednodeError when the disk says no.
        """
        self._check_writable()
        try:
            self._connection.begin()
            try:
                done = work(self._connection)
                self._connection.commit()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.rollback()
                raise
            self._learn()
        except duckdb.FatalException as error:
            self._give_up(first_line(str(error)))
            raise self._not_written(error) from error
        except duckdb.Error as error:
            raise self._not_written(error) from error
        return done

    def beside(self, work: Callable[[Any], T]) -> T:
        """Give `work` the connection to attach other files of the work folder with, which no transaction may be open
        for. Nothing may be written meanwhile; readers go on. Raises FednodeError when the disk says no."""
        self._check_writable()
        try:
            return work(self._connection)
        except duckdb.Error as error:
            raise self._not_written(error) from error

    def replace_file(self, copy: Path) -> None:
        """Put `copy`, of everything that is stored (`tracker.copies.smaller_copy`), in the place of the store's file.
        No reader may be open.

        Raises FednodeError: the store is as it was, or shut until the next write.
        """
        assert self.path is not None
        self._check_writable()
        if copy.with_name(copy.name + ".wal").exists():  # it stays behind, and the rows that are only there with it
            raise FednodeError(f"The copy {copy} was not written whole", remedy="make room on its disk")
        self.close()  # which folds the journal in
        try:
            journal = self.path.with_name(self.path.name + ".wal")
            if journal.exists():
                raise FednodeError(f"{journal} could not be folded into the store", remedy="make room on its disk")
            with disk_errors(f"put a copy in the place of {self.path}"):
                with copy.open("rb") as file:
                    sync(file.fileno())
                copy.chmod(0o600)
                os.replace(copy, self.path)
                sync_directory(self.path.parent)
        finally:
            self._given_up = "it is being opened anew"
            self._open_again()

    def _check_writable(self) -> None:
        if self._read_only:
            raise FednodeError(f"The store {self.path} is open for reading only", remedy="start its node to add to it")
        if self._given_up:
            self._open_again()

    def _not_written(self, error: Exception) -> FednodeError:
        return FednodeError(
            f"The store {self.path} could not be written: {first_line(str(error))}",
            remedy="make room on its disk, and see that it works",
        )

    def _give_up(self, why: str) -> None:
        """DuckDB refuses all further work once it failed to fold its journal in, as on a full disk; what is in the
        file is safe. The next write opens it anew."""
        self._given_up = why
        for connection in (self._root, self._connection):
            with contextlib.suppress(duckdb.Error):
                connection.close()

    def _open_again(self) -> None:
        """Raises FednodeError while the reason lasts."""
        try:
            self._open()
        except duckdb.Error as error:
            raise self._not_written(error) from error
        self._given_up = ""

    def reader(self) -> Reader:
        """A view for reading, which may be used in another thread than `write`. Close it.

        Raises:
            FednodeError: the store is shut since its disk failed, until a write succeeds.
        """
        try:
            if not self._given_up:
                return Reader(self._root.cursor())
            why = self._given_up
        except duckdb.ConnectionException as error:  # shut at this moment
            why = first_line(str(error))
        raise FednodeError(
            f"The store {self.path} is shut since its disk failed: {why}",
            remedy="make room on its disk; it is opened again by itself",
        )

    def close(self) -> None:
        """Let go of the file, with its journal folded in."""
        self._root.close()
        self._connection.close()

    def _write_all(self, rows: Sequence[Row]) -> int:
        by_class: dict[type[Any], list[Any]] = {}
        for row in rows:
            by_class.setdefault(type(row), []).append(row)
        batches = [self._prepare(row_class, group) for row_class, group in by_class.items()]
        self._connection.begin()
        try:
            for batch in batches:
                action = "insert" if batch.table.is_event else "upsert"
                appender = self._connection.appender(batch.table.name, action=action)
                appender.append_rows(batch.values)
                appender.flush()
            self._connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # a commit that failed has rolled back by itself
                self._connection.rollback()
            raise
        for batch in batches:
            self._remember(batch)
        return sum(len(batch.values) for batch in batches)

    def _prepare(self, row_class: type[Any], rows: list[Any]) -> _Batch:
        table = TABLES.get(row_class)
        if table is None:
            raise TypeError(f"{row_class.__name__} is no row of the record")
        values_of = _values_of(table)
        key_of = attrgetter(*table.key)
        if not table.is_event:
            # An upsert keeps the first of several rows of one key; ours is to keep the last.
            return _Batch(table, [values_of(row) for row in {key_of(row): row for row in rows}.values()], {})
        marks: dict[Source, int] = {}
        new = self._unseen(table, [(key_of(row), row) for row in rows], marks)
        start = self._positions[table.name]
        return _Batch(table, [(*values_of(row), start + i) for i, row in enumerate(new)], marks)

    def _unseen(self, table: Table, keyed: list[tuple[Key, Any]], marks: dict[Source, int]) -> list[Any]:
        """The events that are not here yet, each once.

        One numbered above all that its source has sent is new by that alone; only the others are looked up.
        """
        highest = self._marks[table.name]
        batch_keys: set[Key] = set()
        new: list[Any] = []
        late: list[tuple[Key, Any]] = []
        for key, row in keyed:
            if key in batch_keys:
                continue
            batch_keys.add(key)
            source, sequence = key[:-1], key[-1]
            if sequence > marks.get(source, highest.get(source, -1)):
                marks[source] = sequence
                new.append(row)
            elif not was_removed(table.name, row, self._removed):
                late.append((key, row))
        if late:
            known = self._known(table, [key for key, _ in late])
            new += [row for key, row in late if key not in known]
        return new

    def _known(self, table: Table, keys: list[Key]) -> set[Key]:
        *source, sequence = table.key
        columns = ", ".join(table.key)
        asked = ", ".join(
            [*(f"unnest(?::VARCHAR[]) AS {name}" for name in source), f"unnest(?::BIGINT[]) AS {sequence}"]
        )
        found = self._connection.execute(
            f"SELECT {columns} FROM {table.name} SEMI JOIN (SELECT {asked}) USING ({columns})",
            [list(part) for part in zip(*keys, strict=True)],
        )
        return set(found.fetchall())

    def _remember(self, batch: _Batch) -> None:
        if batch.table.is_event:
            self._marks[batch.table.name].update(batch.marks)
            self._positions[batch.table.name] += len(batch.values)

    def _highest(self, table: Table) -> dict[Source, int]:
        source = ", ".join(table.key[:-1])
        found = self._connection.execute(f"SELECT {source}, max(sequence) FROM {table.name} GROUP BY {source}")
        return {row[:-1]: row[-1] for row in found.fetchall()}

    def _next_position(self, table: Table) -> int:
        found = self._connection.execute(f"SELECT coalesce(max(position) + 1, 0) FROM {table.name}").fetchone()
        position: int = found[0]
        return position


def open_stopped(path: Path) -> Store:
    """The store of a node that is not running, for reading.

    Raises:
        FednodeError: a running node holds it (its process id is said), or it is no store.
    """
    return Store(path, read_only=True)


def _event_tables() -> list[Table]:
    return [table for table in TABLES.values() if table.is_event]


def _values_of(table: Table) -> Callable[[Any], tuple[Any, ...]]:
    """A function from a row to its columns."""
    fields_of = attrgetter(*table.fields)
    times = table.times

    def values(row: Any) -> tuple[Any, ...]:
        columns = list(fields_of(row))
        for index in times:
            columns[index] = utc(columns[index])
        return tuple(columns)

    return values
