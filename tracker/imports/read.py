"""Reading what another node has exported, or a copy of its store, into a clean file that our store can take.

This is done by the command's own process: a file that is broken on purpose can end that, and nothing else. Everything
is looked at before any of it is handed over (tracker.imports.rules). Tables that say something about the other node
alone, its decisions, its data sets and the names it gave to models, stay out.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from protocol.errors import FednodeError, Refused
from tracker.durable import disk_errors, make_directory
from tracker.imports.rules import (
    ROOM_SHARE,
    UNPACKED_BYTES_MAX,
    UNPACKED_COPIES,
    check_rows,
    refused,
    unpacked_bytes,
)
from tracker.tables.check import keys_twice
from tracker.tables.connect import first_line
from tracker.tables.schema import MIGRATIONS, TABLES, VERSION

LOCAL_TABLES = ("decisions", "data_sets", "registered_models", "model_aliases")
MANIFEST = "export.json"  # beside the Parquet files: which version of the store they are of
MANIFEST_BYTES_MAX = 4096
STORE_IN_FOLDER = "record.duckdb"  # of a backup with models
MEMORY_MB_MAX = 512
_SOURCE = "imported"


@dataclass(slots=True)
class Staged:
    """`rows` by table; `models`: their folder beside the store, where there is one; `bytes_left`: what may still
    come in, unpacked."""

    path: Path
    bytes_left: int
    rows: dict[str, int] = field(default_factory=dict)
    models: Path | None = None


def tables() -> list[str]:
    """Those that are taken in."""
    return [table.name for table in TABLES.values() if table.name not in LOCAL_TABLES]


def stage(source: Path, target: Path) -> Staged:
    """Read `source`, a folder of an export or a store's file, into a store's file at `target`, which must not be there.

    Raises:
        Refused: it is no export and no store, is of a newer fednode, or has something in it that no fednode writes.
        FednodeError: the disk says no, or the store is in use.
    """
    with disk_errors(f"write {target}"):
        make_directory(target.parent)
        room = int(shutil.disk_usage(target.parent).free * ROOM_SHARE)
    staged = Staged(target, min(UNPACKED_BYTES_MAX, room // UNPACKED_COPIES))
    place = source / STORE_IN_FOLDER if (source / STORE_IN_FOLDER).is_file() else source
    if place != source and (source / "blobs").is_dir():
        staged.models = source / "blobs"
    try:
        with _opened(target, place, staged.bytes_left) as connection:
            for step in MIGRATIONS:
                connection.execute(step)
            connection.execute("CREATE TABLE store_version (version INTEGER)")
            connection.execute("INSERT INTO store_version VALUES (?)", [VERSION])
            if place.is_dir():
                _take_folder(connection, place, staged)
            else:
                _take_store(connection, place, staged)
    except duckdb.Error as error:
        target.unlink(missing_ok=True)
        raise _unreadable(place, first_line(str(error))) from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return staged


@contextlib.contextmanager
def _opened(target: Path, place: Path, spill_bytes_max: int) -> Iterator[Any]:
    """The new file, on a connection that reaches nothing but it and what is imported."""
    configuration: dict[str, Any] = {
        "threads": 1,
        "memory_limit": f"{MEMORY_MB_MAX}MB",
        "temp_directory": f"{target}.spill",
        "max_temp_directory_size": f"{max(1, spill_bytes_max // 2**20)}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
    }
    connection = duckdb.connect(str(target), config=configuration)
    try:
        if place.is_dir():
            connection.execute("SET allowed_directories = [?]", [f"{place}/"])
        else:
            connection.execute("SET allowed_paths = [?, ?]", [str(place), f"{place}.wal"])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


# --- where it comes from -------------------------------------------------------------------------------------------
def _take_folder(connection: Any, folder: Path, staged: Staged) -> None:
    _check_manifest(folder)
    files = {name: folder / f"{name}.parquet" for name in tables()}
    there = {name: path for name, path in files.items() if path.is_file()}
    if "runs" not in there:
        raise Refused(
            "bad-import",
            f"There is no runs.parquet in {folder}",
            remedy="name the folder that fednode export parquet has written, or the file of a store",
        )
    for name, path in there.items():
        text = str(path).replace("'", "''")
        try:
            staged.rows[name] = _take(connection, name, f"read_parquet('{text}')", staged)
        except duckdb.Error as error:
            raise _unreadable(path, first_line(str(error))) from error


def _check_manifest(folder: Path) -> None:
    """Exports from before there was such a file are looked at by their columns alone."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    with disk_errors(f"read {path}"):
        raw = path.read_bytes()[: MANIFEST_BYTES_MAX + 1]
    try:
        version = json.loads(raw)["store_version"] if len(raw) <= MANIFEST_BYTES_MAX else None
    except (ValueError, TypeError, KeyError, RecursionError):
        version = None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Refused("bad-import", f"{path} says nothing that fednode wrote", remedy="export once more")
    _check_version(version)


def _take_store(connection: Any, path: Path, staged: Staged) -> None:
    if not path.is_file():
        raise Refused(
            "bad-import", f"There is nothing at {path}", remedy="name a folder of an export, or a store's file"
        )
    text = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{text}' AS {_SOURCE} (READ_ONLY)")
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            what = f"The store {path} is in use by its node"
            raise FednodeError(
                what, remedy="make a copy with fednode store backup FILE there, and import that"
            ) from None
        raise _unreadable(path, first_line(str(error))) from error
    known = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [_SOURCE]
        ).fetchall()
    }
    if "store_version" not in known or "runs" not in known:
        raise _unreadable(path, "it has none of a store's tables")
    (version,) = connection.execute(f"SELECT max(version) FROM {_SOURCE}.store_version").fetchone()
    _check_version(version or 0)
    for name in tables():
        if name in known:
            staged.rows[name] = _take(connection, name, f"{_SOURCE}.{name}", staged)
    connection.execute(f"DETACH {_SOURCE}")


def _check_version(version: int) -> None:
    if version > VERSION:
        raise Refused(
            "import-too-new",
            f"It was written by a fednode whose store has version {version}; this one knows {VERSION}",
            remedy="upgrade fednode here",
        )


# --- one table -----------------------------------------------------------------------------------------------------
def _take(connection: Any, name: str, origin: str, staged: Staged) -> int:
    """Copy a table's rows, once its columns are what they should be. Gives how many there are."""
    wanted = _columns(connection, name)
    given = {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()}
    if foreign := sorted(set(given) - set(wanted)):
        raise refused(name, f"it has columns that no fednode writes: {', '.join(foreign)[:200]}")
    for column, (kind, _, has_default) in wanted.items():
        if column not in given and not has_default:
            raise refused(name, f"it lacks the column {column}")
        if column in given and given[column] not in (kind, "VARCHAR" if kind == "JSON" else kind):
            raise refused(name, f"the column {column} is {given[column]}, and should be {kind}")
    names = ", ".join(f'"{column}"' for column in wanted if column in given)
    kinds = {column: kind for column, kind in given.items() if column in wanted}
    staged.bytes_left -= unpacked_bytes(connection, name, kinds, origin=origin, bytes_max=staged.bytes_left)
    # A column of JSON is plain text on the way: what is none must be refused by us, with words.
    connection.execute(f"CREATE TEMP TABLE incoming AS SELECT {names} FROM {origin}")
    try:
        there = {column: (kind, can_be_null) for column, (kind, can_be_null, _) in wanted.items() if column in given}
        count = check_rows(connection, name, there, where="incoming")
        taken = (
            names.replace('"position"', "row_number() OVER (ORDER BY position) - 1") if "position" in there else names
        )
        try:
            connection.execute(f"INSERT INTO {name} ({names}) SELECT {taken} FROM incoming")
        except duckdb.ConstraintException as error:
            raise refused(name, f"two of its rows have one key ({first_line(str(error))[:200]})") from None
        if twice := keys_twice(connection, next(table for table in TABLES.values() if table.name == name)):
            raise refused(name, twice[0].what)
    finally:
        connection.execute("DROP TABLE incoming")
    return count


def _columns(connection: Any, name: str) -> dict[str, tuple[str, bool, bool]]:
    """Of each column of ours: its type, whether it may be null, and whether it may be missing."""
    described = connection.execute(f"DESCRIBE {name}").fetchall()
    return {column: (kind, column == "class", default is not None) for column, kind, _, _, default, _ in described}


def _unreadable(path: Path, why: str) -> Refused:
    return Refused(
        "bad-import",
        f"{path} cannot be imported: {why}",
        remedy="name a folder that fednode export parquet has written, or a file that fednode store backup has",
    )
