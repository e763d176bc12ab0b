"""The record's tables as Parquet files: typed in a scratch DuckDB of the exporting process, then written by COPY.

The store itself may write no file (tracker.tables.connect), and the one of a running node is not ours to open.
docs/coming-from.md says what each column means.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from protocol.errors import FednodeError
from tracker.imports.read import MANIFEST
from tracker.tables.connect import first_line
from tracker.tables.schema import MIGRATIONS, TABLES, VERSION

PAGE_ROWS = 20_000  # of one answer: a few megabytes
_MEMORY_MB_MAX = 512  # of the scratch tables; what is more goes to the disk
# Paths of this machine concern nobody else: a data set's row has one, and a model may have been measured on a file.
_LEFT_OUT = {"data_sets"}
_TOLD_AS = {("evaluations", "data"): "CASE WHEN data IN (SELECT name FROM data_sets) THEN data ELSE '' END"}
_NODES_OF_A_RUN = """node_id IN (SELECT node_id FROM participants WHERE run_id = {0}
    UNION SELECT node_id FROM status_events WHERE run_id = {0} UNION SELECT proposer FROM runs WHERE run_id = {0})"""
# Rows that name no run, or not only one: what belongs to it all the same.
_BELONGING = {
    "nodes": _NODES_OF_A_RUN,
    "model_aliases": "(name, version) IN (SELECT (name, version) FROM registered_models WHERE run_id = {0})",
    "system_metrics": f"""(run_id = {{0}} OR (run_id = '' AND {_NODES_OF_A_RUN}
        AND time >= (SELECT min(time) FROM status_events WHERE run_id = {{0}} AND node_id = '' AND state = 'RUNNING')
        AND time <= coalesce((SELECT max(time) FROM status_events WHERE run_id = {{0}} AND node_id = ''
            AND state IN ('FINISHED', 'STOPPED', 'FAILED')), time)))""",
}

Ask = Callable[[str, int], dict[str, Any]]  # a statement and the most rows wanted, as POST /v1/sql answers


def export_tables(
    ask: Ask, folder: Path, *, run_id: str | None, tell: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Write one file for each table of the record, and give how many rows each has.

    Args:
        run_id: of this run alone; None for everything.
        tell: is told now and then how far it is.

    Raises:
        FednodeError: the disk says no.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as scratch, _scratch(Path(scratch)) as tables:
            names = [table.name for table in TABLES.values() if table.name not in _LEFT_OUT]
            counts = {name: _fill(tables, ask, name, run_id, tell) for name in names}
            for name in names:
                _write(tables, name, Path(scratch) / f"{name}.parquet")
            for name in names:
                (Path(scratch) / f"{name}.parquet").replace(folder / f"{name}.parquet")
            # For who imports it: which version of the store the columns are of.
            (folder / MANIFEST).write_text(json.dumps({"store_version": VERSION, "run_id": run_id}) + "\n")
    except OSError as error:
        raise _not_written(folder, error.strerror or str(error)) from None
    except duckdb.Error as error:
        raise _not_written(folder, first_line(str(error))) from None
    return counts


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Any]:
    """An empty store that may write files."""
    configuration: dict[str, Any] = {
        "threads": 1,
        "memory_limit": f"{_MEMORY_MB_MAX}MB",
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(":memory:", config=configuration)
    try:
        for step in MIGRATIONS:
            connection.execute(step)
        yield connection
    finally:
        connection.close()


def _fill(tables: Any, ask: Ask, name: str, run_id: str | None, tell: Callable[[str], None]) -> int:
    """Copy a table page by page, each after the last key of the one before: rows that come meanwhile do no harm."""
    described = tables.execute(f"DESCRIBE {name}").fetchall()
    columns = {column: kind for column, kind, *_ in described}
    key = _page_key(name, columns)
    # As text a number keeps all of its bits, and what is not finite stays what it is.
    wanted = ", ".join(
        f"{column}::VARCHAR" if kind == "DOUBLE" else _TOLD_AS.get((name, column), column)
        for column, kind in columns.items()
    )
    base = _condition(name, run_id)
    places = [list(columns).index(column) for column in key]
    reads = [_READS.get(kind, _as_it_is) for kind in columns.values()]
    count, after = 0, ""
    while True:
        statement = f"SELECT {wanted} FROM {name} WHERE {base}{after} ORDER BY {', '.join(key)}"
        told = ask(f"{statement} LIMIT {PAGE_ROWS}", PAGE_ROWS)
        rows = told["rows"]
        if rows:
            appender = tables.appender(name)
            appender.append_rows([[read(value) for read, value in zip(reads, row, strict=True)] for row in rows])
            appender.flush()
            last = ", ".join(_literal(rows[-1][place]) for place in places)
            after = f" AND ({', '.join(key)}) > ({last})"
            count += len(rows)
            tell(f"{name}: {count:,} rows")
        if len(rows) < PAGE_ROWS and not (told["truncated"] and rows):
            return count


def _write(tables: Any, name: str, path: Path) -> None:
    columns = tables.execute(f"DESCRIBE {name}").fetchall()
    # Not every reader of Parquet knows its JSON.
    taken = ", ".join(f"{column}::VARCHAR AS {column}" if kind == "JSON" else column for column, kind, *_ in columns)
    order = ", ".join(_page_key(name, [column for column, *_ in columns]))
    target = _literal(str(path))
    tables.execute(f"COPY (SELECT {taken} FROM {name} ORDER BY {order}) TO {target} (FORMAT parquet, COMPRESSION zstd)")


def _page_key(name: str, columns: Sequence[str] | dict[str, str]) -> tuple[str, ...]:
    if "position" in columns:
        return ("position",)
    return next(table.key for table in TABLES.values() if table.name == name)


def _condition(name: str, run_id: str | None) -> str:
    return "true" if run_id is None else _BELONGING.get(name, "run_id = {0}").format(_literal(run_id))


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _as_it_is(value: Any) -> Any:
    return value


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=None)


def _number(value: str | None) -> float | None:
    return None if value is None else float(value)


_READS: dict[str, Callable[[Any], Any]] = {"TIMESTAMP": _time, "DOUBLE": _number}


def _not_written(folder: Path, why: str) -> FednodeError:
    return FednodeError(f"{folder} cannot be written ({why})", remedy="name another folder, or make room on the disk")
