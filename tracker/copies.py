"""Whole copies of a store, of what it holds at one moment: to be kept elsewhere, or to take its own place.

DuckDB gives nothing back to the disk when rows go; a copy holds only what is there. It is written by the engine itself,
table by table with their keys and views. DuckDB commits a copy into the journal beside it and folds that in afterwards,
which a full disk stops: so nobody relies on a copy before it was opened alone and counted against the original.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from protocol.errors import FednodeError
from tracker.durable import disk_errors, make_directory, sync, sync_directory
from tracker.store import Store, open_stopped
from tracker.tables.connect import MEMORY_MB_MAX, connect, first_line, work_folder

ROOM_FACTOR = 2  # of what is stored: the copy, and its journal until that is folded in

_COPY = "copied"
_MB = 1_000_000


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
        FednodeError: the disk has no room or says no, or the copy has other rows than the store. Nothing of it is left.
    """
    with disk_errors(f"write {target}"):
        make_directory(target.parent)
        remove_copy(target)
    try:
        counts = store.beside(lambda connection: _copy(connection, _name_of(connection), target, is_backup=is_backup))
        _check_alone(target, counts, is_backup=is_backup)
        _make_durable(target)
        return counts
    except BaseException:
        remove_copy(target)
        raise


def smaller_copy(store: Store) -> Path | None:
    """A copy for `Store.replace_file`, which the caller removes (`remove_copy`) where it does not come to that. None
    when it would take no less room: of a small store most is still in its journal. Otherwise as `write_copy`."""
    assert store.path is not None
    target = work_folder(store.path) / "compacted.duckdb"
    write_copy(store, target, is_backup=False)
    if bytes_of(target) < bytes_of(store.path):
        return target
    remove_copy(target)
    return None


def compact(store: Store) -> Compacted:
    """Give the disk back what the store does not need: a smaller copy takes its place. No reader may be open.

    Raises FednodeError: as `write_copy` and `Store.replace_file`."""
    assert store.path is not None
    before, copy = bytes_of(store.path), smaller_copy(store)
    if copy is not None:
        try:
            store.replace_file(copy)
        finally:
            remove_copy(copy)
    return Compacted(before, bytes_of(store.path) if copy is not None else before)


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
        _check_alone(target, counts, is_backup=True)
        _make_durable(target)
        return counts
    except duckdb.Error as error:
        remove_copy(target)
        what = f"{path} could not be copied to {target}: {first_line(str(error))}"
        raise FednodeError(what, remedy="make room on the disk") from error
    except BaseException:
        remove_copy(target)
        raise
    finally:
        connection.close()


def bytes_of(path: Path) -> int:
    """What a store takes on the disk, with the journal beside it, which may go at any moment. 0 where there is none."""
    total = 0
    for place in (path, _journal_of(path)):
        with suppress(FileNotFoundError):
            total += place.stat().st_size
    return total


def remove_copy(target: Path) -> None:
    """Where it is there; with the journal beside it."""
    for place in (target, _journal_of(target)):
        place.unlink(missing_ok=True)


def _copy(connection: Any, name: str, target: Path, *, is_backup: bool) -> dict[str, int]:
    _check_room(connection, name, target)
    connection.execute(f"ATTACH {_quoted(target)} AS {_COPY}")
    try:
        connection.execute(f'COPY FROM DATABASE "{name}" TO {_COPY}')
        if is_backup:
            connection.execute(f"INSERT OR REPLACE INTO {_COPY}.store_marks VALUES ('whole_since', NULL)")
        connection.execute(f"CHECKPOINT {_COPY}")  # its journal is folded in
    finally:
        connection.execute(f"DETACH {_COPY}")
    return _counts(connection, name)


def _check_room(connection: Any, name: str, target: Path) -> None:
    """A disk that is full halfway would stop whatever else writes there, too."""
    in_blocks, path = connection.execute(
        "SELECT used_blocks * block_size, path FROM pragma_database_size()"
        " JOIN duckdb_databases() USING (database_name) WHERE database_name = ?",
        [_plain(name)],
    ).fetchone()
    journal = _journal_of(Path(path)) if path else None  # a store in memory has none
    needed = ROOM_FACTOR * (in_blocks + (journal.stat().st_size if journal and journal.exists() else 0))
    with disk_errors(f"look for room in {target.parent}"):
        free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise FednodeError(
            f"A copy of the record needs {needed / _MB:,.1f} MB in {target.parent} for a while; {free / _MB:,.1f} MB"
            " are free there",
            remedy="make room on that disk; fednode store prune says what can go",
        )


def _check_alone(target: Path, counts: dict[str, int], *, is_backup: bool) -> None:
    """That the file has all rows without the journal beside it, which does not go where the file goes."""
    if _journal_of(target).exists():
        raise FednodeError(f"The copy {target} was not written whole", remedy="make room on its disk")
    try:
        alone = connect(target, read_only=True)
        try:
            found = _counts(alone, _name_of(alone))
        finally:
            alone.close()
    except (duckdb.Error, FednodeError) as error:
        what = f"The copy {target} cannot be read: {first_line(str(error))}"
        raise FednodeError(what, remedy="see that its disk has room and works") from error
    marks = {"store_marks": 0} if is_backup else {}  # a backup may have been given one more
    if found | marks != counts | marks:
        raise FednodeError(f"The copy {target} has other rows than the store", remedy="see that its disk works")


def _name_of(connection: Any) -> str:
    name: str = connection.execute("SELECT replace(current_database(), chr(34), chr(34) || chr(34))").fetchone()[0]
    return name


def _counts(connection: Any, name: str) -> dict[str, int]:
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY table_name", [_plain(name)]
    ).fetchall()
    return {table: connection.execute(f'SELECT count(*) FROM "{name}".{table}').fetchone()[0] for (table,) in names}


def _plain(name: str) -> str:
    return name.replace('""', '"')


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _make_durable(target: Path) -> None:
    with disk_errors(f"write {target}"), target.open("rb") as file:
        target.chmod(0o600)
        sync(file.fileno())
        sync_directory(target.parent)


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
