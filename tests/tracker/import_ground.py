"""Two stores, and what one gives to the other, for the tests of imports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from tracker.copies import copy_stopped
from tracker.exports.parquet import export_tables
from tracker.imports.merge import Merged, merge
from tracker.imports.read import stage
from tracker.retention import Rules
from tracker.store import Store
from tracker.tables.connect import work_folder

NOW = 1_790_000_100.0
Give = Callable[[Store, Path], Path]


def exported(store: Store, folder: Path) -> Path:
    """As fednode export parquet --all writes it."""

    def ask(statement: str, rows_max: int) -> dict[str, Any]:
        reader = store.reader()
        try:
            columns, rows, truncated = reader.sql(statement, rows_max)
        finally:
            reader.close()
        return {"columns": columns, "rows": json.loads(json.dumps(rows)), "truncated": truncated}

    export_tables(ask, folder, run_id=None)
    return folder


def backed_up(store: Store, folder: Path) -> Path:
    assert store.path is not None
    store.close()
    copy_stopped(store.path, folder.with_suffix(".duckdb"))
    store._open()
    return folder.with_suffix(".duckdb")


def take_in(store: Store, source: Path, rules: Rules | None = None) -> Merged:
    assert store.path is not None
    staged = stage(source, work_folder(store.path) / "import-1.duckdb")
    try:
        return merge(store, staged.path, rules or Rules(), NOW)
    finally:
        staged.path.unlink()


def rewrite(path: Path, statement: str) -> None:
    """Write a Parquet file anew from what is in it, as the table t."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}')")
    connection.execute(f"COPY ({statement}) TO '{path}' (FORMAT parquet)")
    connection.close()
