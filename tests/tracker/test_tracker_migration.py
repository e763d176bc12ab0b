"""A store that an older version wrote opens, with all that was in it; an interrupted migration changes nothing."""

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from protocol.errors import FednodeError
from tracker.store import Store, open_stopped
from tracker.tables import schema
from tracker.tables.check import check_tables
from tracker.tables.schema import MIGRATIONS, TABLES, VERSION

SAMPLES = Path(__file__).parent / "samples"
ROOT = Path(__file__).parents[2]


def sample(version: int, folder: Path) -> Path:
    place = folder / f"store-v{version}.duckdb"
    place.write_bytes(gzip.decompress((SAMPLES / f"store-v{version}.duckdb.gz").read_bytes()))
    return place


def tables_of(connection: Any) -> dict[str, list[str]]:
    names = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall()
    return {name: [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()] for (name,) in names}


def contents(connection: Any, tables: dict[str, list[str]]) -> dict[str, list[str]]:
    """Every row of these columns, as text: what is no number equals itself there."""
    return {
        name: sorted(map(repr, connection.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()))
        for name, columns in tables.items()
    }


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_every_version_has_a_sample_with_rows_in_every_table(version: int, tmp_path: Path) -> None:
    """Whoever lets VERSION grow keeps a sample of the one before: see record_rows.py."""
    there = (SAMPLES / f"store-v{version}.duckdb.gz").exists()
    assert there, f"keep a sample of version {version} first: python tests/tracker/record_rows.py"
    old = duckdb.connect(str(sample(version, tmp_path)), read_only=True)
    found = tables_of(old)
    fresh = duckdb.connect(":memory:")
    for step in MIGRATIONS[:version]:
        fresh.execute(step)
    expected = {name: columns for name, columns in tables_of(fresh).items() if name != "store_version"}
    assert {name: columns for name, columns in found.items() if name != "store_version"} == expected, (
        f"version {version} has changed since its sample was made; one that was released must not"
    )
    empty = [name for name in found if not old.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
    assert set(empty) <= {"imported_runs", "store_marks"}


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_store_of_every_version_opens_with_all_that_was_in_it(version: int, tmp_path: Path) -> None:
    path = sample(version, tmp_path)
    old = duckdb.connect(str(path), read_only=True)
    tables = {name: columns for name, columns in tables_of(old).items() if name != "store_version"}
    before = contents(old, tables)
    old.close()
    store = Store(path)
    assert contents(store._connection, tables) == before
    checked = check_tables(store._connection)
    assert (checked.version, [f.what for f in checked.findings if f.is_error]) == (VERSION, [])
    assert set(checked.rows) == {table.name for table in TABLES.values()}
    reader = store.reader()
    for run in reader.query("runs", {}):
        assert reader.query("run", {"run_id": run["run_id"]})[0]["manifest"]
        assert reader.query("metrics", {"run_id": run["run_id"]})
    reader.close()
    store.close()
    open_stopped(path).close()


def test_a_migration_that_is_killed_in_its_middle_leaves_the_old_store(tmp_path: Path) -> None:
    path = sample(1, tmp_path)
    before = contents(duckdb.connect(str(path), read_only=True), {"runs": ["*"], "metrics": ["*"]})
    code = f"""
import os, sys
from tracker.tables import schema
real = schema.MIGRATIONS
class Dying:
    def __getitem__(self, step): return real[step] + "; SELECT dies();"
    def __len__(self): return len(real)
import duckdb
connection = duckdb.connect({str(path)!r})
connection.create_function("dies", lambda: os._exit(9), [], "INTEGER", side_effects=True)
schema.MIGRATIONS = Dying()
schema.migrate(connection, "here")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    old = duckdb.connect(str(path), read_only=True)
    assert "spans" not in tables_of(old)
    assert contents(old, {"runs": ["*"], "metrics": ["*"]}) == before
    old.close()
    store = Store(path)
    assert "spans" in tables_of(store._connection)
    store.close()


def test_a_migration_that_fails_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample(1, tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (MIGRATIONS[0], "CREATE TABLE half (x INTEGER); SELECT error('no')"))
    with pytest.raises(FednodeError):
        Store(path)
    monkeypatch.undo()
    connection = duckdb.connect(str(path), read_only=True)
    assert "half" not in tables_of(connection)
    connection.close()
    Store(path).close()
