"""The store: tables, migration, replay, who may open it, and what happens to rows that are none."""

import dataclasses
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from protocol.errors import FednodeError
from tracker.store import Store, open_stopped
from tracker.tables import rows as row_classes
from tracker.tables.rows import LogRow, MetricRow, ModelRow, ParameterRow, RunRow, StatusRow, iso
from tracker.tables.schema import MIGRATIONS, TABLES, VERSION

RUN = RunRow("r", "n", "p", "e", "g", "t", "d", "node", 3, 1.0, "{}")


def metric(source: str, sequence: int, value: float = 1.0) -> MetricRow:
    return MetricRow("r", source, "local", "train", "loss", None, 1, 0, sequence, value, 8, 1.5, source, sequence)


def count(store: Store, table: str) -> int:
    reader = store.reader()
    try:
        found: int = reader.sql(f"SELECT count(*) FROM {table}", 1)[1][0][0]
    finally:
        reader.close()
    return found


def test_each_row_class_has_a_table_with_its_fields() -> None:
    classes = {c for c in vars(row_classes).values() if dataclasses.is_dataclass(c)}
    assert set(TABLES) == classes
    reader = Store(None).reader()
    for table in TABLES.values():
        columns = [row[0] for row in reader.sql(f"DESCRIBE {table.name}", 100)[1]]
        expected = [name.rstrip("_") for name in table.fields]
        assert columns == expected + (["position"] if table.is_event else [])


def test_times_are_naive_utc_and_come_out_as_written() -> None:
    assert iso(0.0) == "1970-01-01T00:00:00.000000Z"
    store = Store(None)
    store.write([dataclasses.replace(RUN, created_at=1_800_000_000.123456)])
    assert store.reader().query("runs", {})[0]["created_at"] == iso(1_800_000_000.123456)
    assert iso(1_800_000_000.123456) == "2027-01-15T08:00:00.123456Z"


@pytest.mark.parametrize(
    "orders",
    [
        [[1, 2, 3], [1, 2, 3]],
        [[3, 1, 2], [2, 2, 4, 4]],
        [[5], [4], [5, 4, 3], [3]],
        [[1, 1, 1]],
        [[10], list(range(12))],
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_replays_in_any_order_count_once(orders: list[list[int]], restart: bool, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    for order in orders:
        store.write([metric("a", n) for n in order] + [metric("b", n) for n in order])
        if restart:
            store.close()
            store = Store(tmp_path / "store.duckdb")
    _, found, _ = store.reader().sql(
        "SELECT source_node, list(sequence ORDER BY sequence) FROM metrics GROUP BY ALL", 9
    )
    numbers = sorted({n for order in orders for n in order})
    assert sorted(found) == [("a", numbers), ("b", numbers)]
    _, positions, _ = store.reader().sql("SELECT position FROM metrics ORDER BY 1", 100)
    assert [row[0] for row in positions] == list(range(2 * len(numbers)))


def test_write_says_how_many_were_new() -> None:
    store = Store(None)
    assert store.write([]) == 0
    assert store.write([metric("a", 1), metric("a", 1), metric("a", 2), RUN, RUN]) == 3
    assert store.write([metric("a", 1), RUN]) == 1


def test_a_failed_write_leaves_no_trace_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(None)
    store.write([metric("a", 1)])
    inner = store._connection

    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

        def commit(self) -> None:
            raise duckdb.IOException("IO Error: No space left on device")

    monkeypatch.setattr(store, "_connection", Failing())
    with pytest.raises(FednodeError, match="No space left"):
        store.write([metric("a", 2), RUN])
    monkeypatch.undo()
    assert (count(store, "metrics"), count(store, "runs")) == (1, 0)
    assert store.write([metric("a", 2), RUN]) == 2
    assert store.reader().sql("SELECT max(position) FROM metrics", 1)[1] == [(1,)]


def test_bad_rows_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(None)
    good = [metric("a", n) for n in range(50)]
    bad = [
        dataclasses.replace(good[0], sequence=100, samples=2**80),
        dataclasses.replace(good[0], sequence=101, time=float("nan")),
        LogRow("a", "", "INFO", "l", "half a pair \ud800", 1.0, 1),
        ModelRow("r", 1, None, "s", 1, 1.0),  # type: ignore[arg-type]
    ]
    with caplog.at_level(logging.WARNING, "fednode.tracker"):
        assert store.write(good[:20] + bad + good[20:]) == 50
    assert len(caplog.records) == len(bad)
    assert store.write(good) == 0


def test_the_file_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "store.duckdb"
    store = Store(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    store.close()


def test_a_query_that_outgrows_the_memory_spills_into_the_home(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    store = Store(path)
    reader = store.reader()
    _, found, _ = reader.sql("SELECT count(DISTINCT (a.range, hash(a.range))) FROM range(3000000) a", 1)
    assert found == [(3_000_000,)]
    assert {p.name for p in tmp_path.iterdir()} <= {"store.duckdb", "store.duckdb.wal", "store.duckdb.spill"}
    reader.close()
    store.close()
    spill = Path(f"{path}.spill")
    spill.mkdir(exist_ok=True)
    (spill / "left-by-a-killed-process").write_bytes(b"x")
    Store(path).close()
    assert not (spill / "left-by-a-killed-process").exists()


def test_a_stopped_nodes_store_can_be_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    store = Store(path)
    store.write([metric("a", 1), RUN])
    store.close()
    stopped = open_stopped(path)
    assert count(stopped, "metrics") == 1
    assert stopped.reader().query("runs", {})[0]["run_id"] == "r"
    with pytest.raises(FednodeError):
        stopped.write([metric("a", 2)])
    stopped.close()


def test_a_missing_store_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(FednodeError, match="no store at"):
        open_stopped(tmp_path / "nowhere" / "store.duckdb")
    assert not (tmp_path / "nowhere").exists()


def test_who_holds_the_store_is_said(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    code = (
        "import sys; from pathlib import Path; from tracker.store import Store\n"
        "store = Store(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"open\n"
        for opening in (Store, open_stopped):
            with pytest.raises(FednodeError, match=f"in use by the process {holder.pid}.*ask that process"):
                opening(path)
    finally:
        holder.kill()
        holder.communicate()
    open_stopped(path).close()


def test_a_store_open_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    for read_only in (False, True):
        with pytest.raises(FednodeError, match="already open"):
            Store(tmp_path / "store.duckdb", read_only=read_only)
    store.close()


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    path.write_bytes(b"something else" * 1000)
    for read_only in (False, True):
        with pytest.raises(FednodeError, match="not a store"):
            Store(path, read_only=read_only)
    assert path.read_bytes() == b"something else" * 1000


def make_store_of_version(path: Path, version: int) -> None:
    connection = duckdb.connect(str(path))
    connection.execute("CREATE TABLE store_version (version INTEGER)")
    connection.execute("INSERT INTO store_version VALUES (?)", [version])
    connection.close()


def test_a_store_from_the_future_is_refused_with_a_remedy(tmp_path: Path) -> None:
    make_store_of_version(tmp_path / "store.duckdb", VERSION + 1)
    for read_only in (False, True):
        with pytest.raises(FednodeError, match=f"version {VERSION + 1}.*upgrade fednode"):
            Store(tmp_path / "store.duckdb", read_only=read_only)


def test_an_older_store_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.duckdb"
    store = Store(path)
    store.write([RUN])
    store.close()
    steps = (*MIGRATIONS, "ALTER TABLE runs ADD COLUMN colour VARCHAR", "UPDATE runs SET colour = 'red'")
    monkeypatch.setattr("tracker.tables.schema.MIGRATIONS", steps)
    monkeypatch.setattr("tracker.tables.schema.VERSION", len(steps))
    with pytest.raises(FednodeError, match="start the node once"):
        open_stopped(path)
    store = Store(path)
    assert store.reader().sql("SELECT colour FROM runs", 1)[1] == [("red",)]
    assert store.reader().sql("SELECT max(version) FROM store_version", 1)[1] == [(VERSION + 2,)]
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.duckdb"
    Store(path).close()
    with monkeypatch.context() as patch:
        patch.setattr("tracker.tables.schema.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE extra (a INT); SELECT nonsense"))
        patch.setattr("tracker.tables.schema.VERSION", VERSION + 1)
        with pytest.raises(FednodeError):
            Store(path)
    store = Store(path)
    tables = [row[0] for row in store.reader().sql("SHOW TABLES", 100)[1]]
    assert "extra" not in tables
    store.close()


def test_reading_goes_on_while_a_write_is_under_way() -> None:
    store = Store(None)
    store.write([metric("a", 1)])
    store._connection.begin()
    store._connection.execute("DELETE FROM metrics")
    assert count(store, "metrics") == 1
    store._connection.rollback()


def test_statuses_current_state_is_the_one_added_last() -> None:
    store = Store(None)
    store.write([StatusRow("r", "a", "TRAINING", "", 1, 50.0, 1), StatusRow("r", "a", "UPLOADING", "", 1, 20.0, 2)])
    store.write([StatusRow("r", "", "RUNNING", "", 1, 50.0, 3), StatusRow("r", "a", "TRAINING", "", 1, 50.0, 1)])
    _, found, _ = store.reader().sql("SELECT node_id, state FROM current_states ORDER BY 1", 9)
    assert found == [("", "RUNNING"), ("a", "UPLOADING")]


def test_parameters_replace_by_run_and_key() -> None:
    store = Store(None)
    store.write([ParameterRow("r", "lr", "0.1", "float"), ParameterRow("r", "epochs", "1", "int")])
    store.write([ParameterRow("r", "lr", "0.2", "float")])
    found = store.reader().query("parameters", {"run_id": "r"})
    assert [(row["key"], row["value"]) for row in found] == [("epochs", "1"), ("lr", "0.2")]


def test_one_source_numbers_each_run_by_itself(tmp_path: Path) -> None:
    """Signed figures are numbered within their run: the second run's are no replays of the first's."""
    store = Store(tmp_path / "store.duckdb")
    first = MetricRow("run-1", "n", "global", "eval", "loss", None, 1, 0, 0, 0.5, 9, 1.0, "n", 7)
    store.write([first, replace(first, run_id="run-2"), replace(first, run_id="run-2")])
    store.write([replace(first, run_id="run-2"), first])
    assert store.reader().sql("SELECT run_id FROM metrics ORDER BY 1", 9)[1] == [("run-1",), ("run-2",)]
    store.close()
