"""How a DuckDB file is opened: alone, small, closed to the rest of the machine; and what goes wrong, in people's words.

DuckDB locks a file for one process, readers included. `enable_external_access` off and a locked configuration keep
every later statement away from other files, the network and these settings; one folder beside the store is left, where
it is copied to and imported from. DuckDB wants them in this order: open, shut, lock.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import duckdb

from protocol.errors import FednodeError

TEMPORARY_SUFFIX = ".spill"  # queries that outgrow the memory put parts of themselves into this folder
WORK_SUFFIX = ".work"  # copies of the store on their way, in or out, lie in this folder; DuckDB reaches no other file
MEMORY_MB_MAX = 96  # with Python's and DuckDB's own, a node's store stays under 200 MB at ten million rows
DAMAGED_REMEDY = (
    "put back a copy of it, or move it away: the node begins a new one; figures, log lines and the names of models and"
    " artifacts go with it, but no group, run, vote or model"
)
_CONFIGURATION = {
    "threads": 1,  # one is the fastest on a machine that trains, and bounds the memory
    "async_threads": 1,
    "memory_limit": f"{MEMORY_MB_MAX}MB",
    "autoinstall_known_extensions": "false",  # else a mistyped function name goes to the network
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


def work_folder(path: Path) -> Path:
    """The folder beside the store where its copies and imports lie; emptied when a node opens its store."""
    return Path(f"{path.absolute()}{WORK_SUFFIX}")


def connect(path: Path | None, *, read_only: bool = False) -> Any:
    """An open, closed-off connection to the file, or to memory for None.

    Raises:
        FednodeError: another process holds the file, it is no store, or the disk says no.
    """
    configuration: dict[str, Any] = dict(_CONFIGURATION)
    if path is None:
        connection = duckdb.connect(":memory:", config=configuration)
    else:
        path = path.absolute()
        if not read_only:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration["temp_directory"] = str(path) + TEMPORARY_SUFFIX
        connection = _connect_file(path, configuration, read_only)
    try:
        if path is not None:
            connection.execute("SET allowed_directories = [?]", [f"{work_folder(path)}/"])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except duckdb.InvalidInputException as error:  # an open store of this process is what we were given, locked
        connection.close()
        raise _already_open(path) from error
    return connection


def _connect_file(path: Path, configuration: dict[str, Any], read_only: bool) -> Any:
    if read_only and not path.exists():
        raise FednodeError(f"There is no store at {path}", remedy="name the home of a node that has run before")
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=configuration)
    except duckdb.Error as error:
        raise _opening_failed(path, str(error)) from error
    if not read_only:
        path.chmod(0o600)
        # What a killed process spilled is of no use to anybody.
        shutil.rmtree(configuration["temp_directory"], ignore_errors=True)
    return connection


def _opening_failed(path: Path, text: str) -> FednodeError:
    if "Could not set lock" in text:
        holder = re.search(r"PID (\d+)", text)
        who = f"the process {holder[1]}" if holder else "another process"
        return FednodeError(
            f"The store {path} is in use by {who}; it can be open in one process only",
            remedy="ask that process where it is the node, else end it first",
        )
    if "does not match database file" in text:
        return FednodeError(
            f"The store {path} cannot be opened beside {path}.wal, which is the journal of another one",
            remedy=f"move {path}.wal away, if {path.name} is a copy that was put there: it belongs to the one before",
        )
    if "different configuration" in text:
        return _already_open(path)
    if "not a valid DuckDB database" in text:
        return FednodeError(f"{path} is not a store", remedy=DAMAGED_REMEDY)
    if "Corrupt" in text or "checksum" in text:
        return FednodeError(f"The store {path} is damaged: {first_line(text)}", remedy=DAMAGED_REMEDY)
    return FednodeError(
        f"The store {path} cannot be opened: {first_line(text)}",
        remedy="see that the disk has room and the file is yours; a store written by a newer DuckDB needs that one",
    )


def _already_open(path: Path | None) -> FednodeError:
    return FednodeError(f"The store {path} is already open in this process", remedy="close it first")


def first_line(text: str) -> str:
    """DuckDB's message without its kind and the picture of the statement."""
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return re.sub(r"^[A-Za-z]+ Error: ", "", line).rstrip(".")
