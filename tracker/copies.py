"""Whole copies of a store, of what it holds at one moment: to be kept elsewhere, or to take its own place.

DuckDB gives nothing back to the disk when rows go; a copy holds only what is there. It is written by the engine itself,
table by table with their keys and views, and counted against the original before anybody relies on it.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from protocol.errors import FednodeError
from tracker.connect import MEMORY_MB_MAX, first_line
from tracker.durable import disk_errors, make_directory, sync, sync_directory
from tracker.store import Store, open_stopped

_COPY = "copied"


@dataclass(frozen=True, slots=True)
class Compacted:
    bytes_before: int
    bytes_after: int


def write_copy(store: Store, target: Path, *, is_backup: bool) -> dict[str, int]:
    """Write all that is stored into a new file, durably. Gives the rows of each table. Nothing may be written into the
    store meanwhile; it may be read.

    Args:
        target: in the store's work folder; what lies there already is replaced.
        is_backup: the copy may be put back later, when other things have happened.

    Raises:
        FednodeError: the disk says no, or the copy has other rows than the store.
    """
    with disk_errors(f"write {target}"):
        make_directory(target.parent)
        _remove(target)
    try:
        counts = store.beside(lambda connection: _copy(connection, _name_of(connection), target, is_backup=is_backup))
        _make_durable(target)
    except BaseException:
        _remove(target)
        raise
    return counts


def copy_stopped(path: Path, target: Path) -> dict[str, int]:
    """Write a backup of a stopped node's store, which is only read, into the new file `target`. As `write_copy`.

    Raises FednodeError: also when a node has it open, and when it is no store."""
    open_stopped(path).close()  # which says what is wrong with it
    work = target.absolute().parent
    connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": f"{MEMORY_MB_MAX}MB"})
    try:
        connection.execute("SET allowed_paths = [?, ?]", [str(path), f"{path}.wal"])
        connection.execute("SET allowed_directories = [?]", [f"{work}/"])
        connection.execute("SET enable_external_access = false")
        connection.execute(f"ATTACH {_quoted(path)} AS stopped (READ_ONLY)")
        counts = _copy(connection, "stopped", target, is_backup=True)
    except duckdb.Error as error:
        _remove(target)
        what = f"{path} could not be copied to {target}: {first_line(str(error))}"
        raise FednodeError(what, remedy="make room on the disk") from error
    finally:
        connection.close()
    _make_durable(target)
    return counts


def bytes_of(path: Path) -> int:
    """What a store takes on the disk, with the journal beside it."""
    places = (path, path.with_name(path.name + ".wal"))
    return sum(place.stat().st_size for place in places if place.exists())


def _copy(connection: Any, name: str, target: Path, *, is_backup: bool) -> dict[str, int]:
    connection.execute(f"ATTACH {_quoted(target)} AS {_COPY}")
    try:
        connection.execute(f'COPY FROM DATABASE "{name}" TO {_COPY}')
        if is_backup:
            connection.execute(f"INSERT OR REPLACE INTO {_COPY}.store_marks VALUES ('whole_since', NULL)")
        counts = _counts(connection, name)
        if _counts(connection, _COPY) | {"store_marks": 0} != counts | {"store_marks": 0}:
            raise FednodeError("The copy has other rows than the store", remedy="see that the disk works")
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.execute(f"DETACH {_COPY}")
    return counts


def _name_of(connection: Any) -> str:
    name: str = connection.execute("SELECT replace(current_database(), chr(34), chr(34) || chr(34))").fetchone()[0]
    return name


def _counts(connection: Any, name: str) -> dict[str, int]:
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY table_name", [name.replace('""', '"')]
    ).fetchall()
    return {table: connection.execute(f'SELECT count(*) FROM "{name}".{table}').fetchone()[0] for (table,) in names}


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _make_durable(target: Path) -> None:
    with disk_errors(f"write {target}"), target.open("rb") as file:
        target.chmod(0o600)
        sync(file.fileno())
        sync_directory(target.parent)


def _remove(target: Path) -> None:
    for place in (target, target.with_name(target.name + ".wal")):
        place.unlink(missing_ok=True)
