"""People's SQL: what reads the store is run, everything else is refused, and nothing but the store is touched."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from protocol.errors import Refused
from tracker.queries.reader import Reader
from tracker.store import Store
from tracker.tables.rows import MetricRow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home" / "store.duckdb")
    opened.write([MetricRow("r", "a", "local", "train", "loss", None, 1, 0, n, 1.0, 8, 1.5, "a", n) for n in range(5)])
    yield opened
    opened.close()


@pytest.fixture
def reader(store: Store) -> Iterator[Reader]:
    opened = store.reader()
    yield opened
    opened.close()


ALLOWED = [
    "SELECT count(*) FROM metrics",
    "WITH x AS (SELECT round FROM metrics) SELECT * FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 3) SELECT * FROM r",
    "FROM metrics",
    "FROM metrics SELECT round",
    "TABLE metrics",
    "VALUES (1), (2)",
    "DESCRIBE metrics",
    "DESCRIBE SELECT 1",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE metrics",
    "EXPLAIN SELECT * FROM metrics",
    "explain analyze select count(*) from metrics",
    "EXPLAIN (FORMAT json) SELECT 1",
    "/* a comment */ SELECT 1 -- and another",
    "SELECT 1;",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT * FROM range(3), unnest([1, 2])",
    "PIVOT metrics ON key IN ('loss') USING avg(value) GROUP BY round",
    "SELECT row_number() OVER (ORDER BY step) FROM metrics QUALIFY true",
    "SELECT * FROM duckdb_tables()",
    "SELECT table_name FROM information_schema.tables",
    "SELECT now()::TIMESTAMP",
    "SELECT CASE WHEN 'DROP TABLE metrics; --' = 'x' THEN 1 END",
]

REFUSED = [
    # other files
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM READ_TEXT('/etc/passwd')",
    "SELECT * FROM system.main.read_text('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT 1",
    "SELECT * FROM metrics, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
    "DESCRIBE SELECT * FROM read_csv('{secret}')",
    "SUMMARIZE SELECT * FROM read_csv('{secret}')",
    "EXPLAIN SELECT * FROM read_csv('{secret}')",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_blob('{store}')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT getenv('HOME')",
    "COPY metrics TO '{out}'",
    "COPY (SELECT 1) TO '{out}'",
    "COPY metrics FROM '{secret}'",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "ATTACH '{out}' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH store",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{out}'",
    "CALL enable_logging(storage = 'file', storage_path = '{out}')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{out}')",
    "CALL enable_profiling(save_location = '{out}')",
    # settings
    "SET threads = 4",
    "SET memory_limit = '10GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA threads = 4",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    # changes
    "INSERT INTO metrics SELECT * FROM metrics",
    "UPDATE metrics SET value = 0",
    "DELETE FROM metrics",
    "TRUNCATE metrics",
    "MERGE INTO runs USING (SELECT 'r' AS run_id) s ON runs.run_id = s.run_id WHEN MATCHED THEN DELETE",
    "WITH w AS (DELETE FROM metrics RETURNING *) SELECT * FROM w",
    "WITH w AS (INSERT INTO logs VALUES ('a', '', '', '', '', now()::TIMESTAMP, 1, 1) RETURNING *) SELECT * FROM w",
    "EXPLAIN DELETE FROM metrics",
    "EXPLAIN ANALYZE DELETE FROM metrics",
    "EXPLAIN ANALYZE WITH w AS (DELETE FROM metrics RETURNING *) SELECT * FROM w",
    "EXPLAIN EXPLAIN ANALYZE DELETE FROM metrics",
    "DROP TABLE metrics",
    "ALTER TABLE metrics DROP COLUMN value",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "CREATE SEQUENCE s",
    "VACUUM",
    "CHECKPOINT",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM truncate_duckdb_logs()",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS DELETE FROM metrics",
    "EXECUTE p",
    "DEALLOCATE p",
    # more than one, and none
    "SELECT 1; SELECT 2",
    "SELECT 1; DELETE FROM metrics",
    "COMMIT; DELETE FROM metrics",
    "EXPLAIN SELECT 1; DELETE FROM metrics",
    "",
    "-- nothing",
    ";",
    # what is no SQL
    "SELECT",
    "SELECT * FROM metrics FOR UPDATE",
    "CONNECT 'x'",
    "\0",
]


@pytest.mark.parametrize("statement", ALLOWED)
def test_statements_that_only_read_are_run(reader: Reader, statement: str) -> None:
    columns, _, truncated = reader.sql(statement, 100)
    assert columns
    assert not truncated


@pytest.mark.parametrize("statement", REFUSED)
def test_all_other_statements_are_refused_and_change_nothing(
    store: Store, reader: Reader, tmp_path: Path, statement: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    before = fingerprint(store, tmp_path)
    with pytest.raises(Refused) as refused:
        reader.sql(statement.format(secret=secret, out=tmp_path / "out", store=store.path), 100)
    assert refused.value.remedy
    assert fingerprint(store, tmp_path) == before


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("DELETE FROM metrics", "read-only"),
        ("CREATE TABLE x AS SELECT 1", "read-only"),
        ("WITH w AS (DELETE FROM metrics RETURNING *) SELECT * FROM w", "read-only"),
        ("SET memory_limit = '10GB'", "locked"),
        ("SET enable_external_access = true", "locked|running"),
        ("CALL enable_profiling(save_location = 'x')", "locked"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled"),
        ("COPY metrics TO 'x'", "disabled"),
    ],
)
def test_the_engine_refuses_by_itself(
    reader: Reader, statement: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.queries.reader.check_statement", lambda connection, statement: None)
    with pytest.raises(Refused, match=word):
        reader.sql(statement, 1)


# Ending the transaction is what only our check refuses.
@pytest.mark.parametrize("statement", [text for text in REFUSED if not text.startswith("COMMIT")])
def test_the_engine_holds_the_same_line_without_our_check(
    store: Store, reader: Reader, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the check stand a read-only transaction, no access to files, and a locked configuration."""
    monkeypatch.setattr("tracker.queries.reader.check_statement", lambda connection, statement: None)
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    before = fingerprint(store, tmp_path)
    try:
        _, rows, _ = reader.sql(statement.format(secret=secret, out=tmp_path / "out", store=store.path), 100)
    except (Refused, TypeError):  # TypeError: a statement without a result, run to no effect
        rows = []
    assert not any("root:" in str(value) for row in rows for value in row)
    assert fingerprint(store, tmp_path) == before


def fingerprint(store: Store, directory: Path) -> object:
    own = Store.reader(store)
    tables = own.sql("SELECT table_name, column_count, estimated_size FROM duckdb_tables() ORDER BY ALL", 100)[1]
    metrics = own.sql("SELECT * FROM metrics ORDER BY ALL", 100)[1]
    own.close()
    files = sorted(str(path) for path in directory.rglob("*") if ".duckdb" not in path.name)
    return tables, metrics, files


def test_statements_that_are_too_long_or_too_deep_are_refused(reader: Reader) -> None:
    for statement in ("SELECT " + "1," * 20_000 + "1", "SELECT " + "(" * 3000 + "1" + ")" * 3000):
        with pytest.raises(Refused):
            reader.sql(statement, 1)


def test_values_come_as_json_knows_them(reader: Reader) -> None:
    _, rows, _ = reader.sql(
        "SELECT 1, 2.5::DECIMAL(4, 2), 'x', NULL, true, 'nan'::DOUBLE, TIMESTAMP '2026-01-02 03:04:05', "
        "DATE '2026-01-02', 'ab'::BLOB, [1, NULL], {'a': TIMESTAMP '2026-01-02 03:04:05'}, INTERVAL 1 DAY, uuid '"
        + "0" * 8
        + "-0000-0000-0000-000000000001', 2::HUGEINT ** 70",
        1,
    )
    assert rows[0][:10] == (
        1,
        2.5,
        "x",
        None,
        True,
        None,
        "2026-01-02T03:04:05.000000Z",
        "2026-01-02",
        "6162",
        [1, None],
    )
    assert rows[0][10] == {"a": "2026-01-02T03:04:05.000000Z"}
    assert rows[0][11] == "1 day, 0:00:00"


def test_a_column_with_a_time_zone_comes_in_utc_or_is_refused_with_a_remedy(reader: Reader) -> None:
    """DuckDB needs pytz for it, which is none of our dependencies."""
    statement = "SELECT TIMESTAMPTZ '2026-01-02 03:04:05+01'"
    if importlib.util.find_spec("pytz"):
        assert reader.sql(statement, 1)[1] == [("2026-01-02T02:04:05.000000Z",)]
    else:
        with pytest.raises(Refused, match="cast it") as refused:
            reader.sql(statement, 1)
        assert refused.value.code == "sql-time-zone"


def test_an_answer_of_endless_text_is_cut_off(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.queries.reader.RESULT_CHARACTERS_MAX", 1000)
    _, rows, truncated = reader.sql("SELECT repeat('x', 300) FROM range(10)", 10)
    assert (len(rows), truncated) == (3, True)


def test_a_refusal_leaves_the_reader_usable(reader: Reader) -> None:
    for _ in range(2):
        with pytest.raises(Refused):
            reader.sql("SELECT 1 / (SELECT 'x'::INT)", 1)
        assert reader.sql("SELECT 1", 1)[1] == [(1,)]


def test_a_store_opened_for_reading_is_as_shut(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    Store(path).close()
    stopped = Store(path, read_only=True)
    with pytest.raises(Refused):
        stopped.reader().sql("SELECT * FROM read_text('/etc/passwd')", 1)
    for statement in ("SELECT * FROM read_text('/etc/passwd')", "SET enable_external_access = true", "LOAD httpfs"):
        with pytest.raises(duckdb.Error):
            stopped._connection.execute(statement)
    stopped.close()
