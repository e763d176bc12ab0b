"""What another node has exported comes in whole, once, and over nothing; of what is refused nothing comes in."""

import json
import os
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from import_ground import NOW, Give, backed_up, exported, rewrite, take_in
from record_rows import OTHER, RUN, every_row

from protocol.errors import FednodeError, Refused
from tracker.imports.merge import merge
from tracker.imports.read import LOCAL_TABLES, MANIFEST, stage
from tracker.retention import Rules
from tracker.store import Store
from tracker.tables.connect import work_folder
from tracker.tables.rows import DecisionRow, LogRow, MetricRow, RoundRow, SpanRow, StatusRow
from tracker.tables.schema import TABLES, VERSION

TAKEN = [table.name for table in TABLES.values() if table.name not in LOCAL_TABLES]


def rows_of(store: Store, name: str) -> list[str]:
    """Without their positions, which are each store's own."""
    found = store._connection.execute(f"SELECT COLUMNS(lambda c: c <> 'position') FROM {name}").fetchall()
    return sorted(map(repr, found))


@pytest.mark.parametrize("give", [exported, backed_up])
def test_everything_comes_in_once(give: Give, theirs: Store, ours: Store, tmp_path: Path) -> None:
    source = give(theirs, tmp_path / "given")
    merged = take_in(ours, source)
    assert merged.runs == [RUN]
    for name in TAKEN:
        expected = rows_of(theirs, name)
        assert rows_of(ours, name) == expected, name
        assert merged.rows[name] == len(expected)
    assert all(rows_of(ours, name) == [] for name in LOCAL_TABLES)
    run = ours.reader().query("run", {"run_id": RUN})[0]
    assert (run["state"], run["decision"], run["accuracy"]) == ("FINISHED", "imported", 0.75)
    again = take_in(ours, source)
    assert (again.rows, again.runs) == ({}, [])
    # What is recorded later comes behind it, and what came in is not taken for new.
    assert ours.write([row for row in every_row() if isinstance(row, MetricRow | LogRow)]) == 0
    positions = ours._connection.execute("SELECT position FROM metrics ORDER BY 1").fetchall()
    assert positions == [(0,), (1,), (2,)]


def test_what_this_node_saw_itself_stands(theirs: Store, ours: Store, tmp_path: Path) -> None:
    ours.write(
        [
            DecisionRow(RUN, "declined", "", 1.0),
            RoundRow(RUN, 1, 9, "us", "ee" * 32, "09" * 32, NOW, 7, "[]", 1, 0.5),
            StatusRow(RUN, "", "STOPPED", "by us", 1, NOW, 1, "us"),
            MetricRow(RUN, "n1", "global", "eval", "accuracy", None, 1, 0, 0, 0.125, 20, NOW, "n1", 64),
        ]
    )
    merged = take_in(ours, exported(theirs, tmp_path / "given"))
    assert "status_events" not in merged.rows
    reader = ours.reader()
    run = reader.query("run", {"run_id": RUN})[0]
    assert (run["state"], run["reason"], run["decision"]) == ("STOPPED", "by us", "declined")
    assert [row["aggregator"] for row in reader.query("rounds", {"run_id": RUN})] == ["us"]
    accuracies = reader.query("metrics", {"run_id": RUN, "node": "n1", "key": "accuracy"})
    assert [row["value"] for row in accuracies] == [0.125]


def test_spans_of_a_round_that_is_here_do_not_count_twice(theirs: Store, ours: Store, tmp_path: Path) -> None:
    """A node's own are finer than what it told the others, and have other numbers."""
    (span,) = [row for row in every_row() if isinstance(row, SpanRow)][:1]
    ours.write([replace(span, sequence=10**15, seconds=0.5), replace(span, sequence=10**15 + 1, seconds=0.25)])
    another = replace(span, round=span.round + 1, sequence=span.sequence + 16)
    theirs.write([another])
    take_in(ours, exported(theirs, tmp_path / "given"))
    held = ours._connection.execute("SELECT round, seconds FROM spans WHERE node_id = ? ORDER BY 1, 2", [span.node_id])
    assert held.fetchall() == [(span.round, 0.25), (span.round, 0.5), (another.round, another.seconds)]


def test_a_later_state_of_an_imported_run_comes_in_and_an_earlier_one_does_not(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    def state() -> str:
        text: str = ours.reader().query("run", {"run_id": RUN})[0]["state"]
        return text

    states = [row for row in every_row() if isinstance(row, StatusRow) and not row.node_id]
    early = Store(tmp_path / "early.duckdb")
    early.write([row for row in every_row() if not isinstance(row, StatusRow)] + states[:2])
    before, after = exported(early, tmp_path / "before"), exported(theirs, tmp_path / "after")
    early.close()
    take_in(ours, before)
    assert state() == "RUNNING"
    take_in(ours, after)
    assert state() == "FINISHED"
    take_in(ours, before)
    assert state() == "FINISHED"


def test_rows_that_retention_would_remove_stay_out(theirs: Store, ours: Store, tmp_path: Path) -> None:
    theirs.write([LogRow("n1", RUN, "INFO", "l", "old", NOW - 100 * 86_400, 1)])
    source = exported(theirs, tmp_path / "given")
    merged = take_in(ours, source)
    assert (merged.too_old, merged.rows["logs"]) == (1, 2)
    assert take_in(ours, source, Rules().changed({"logs": "forever"})).rows == {"logs": 1}


def test_an_export_of_version_1_comes_in(ours: Store, tmp_path: Path) -> None:
    """Its tables and columns are fewer, and it has no file that says its version."""
    old = Store(tmp_path / "old.duckdb")
    old.write(every_row())
    folder = exported(old, tmp_path / "given")
    for name in ("spans", "system_metrics", "evaluations", "node_parameters", "registered_models", "model_aliases"):
        (folder / f"{name}.parquet").unlink()
    (folder / MANIFEST).unlink()
    rewrite(folder / "participants.parquet", "SELECT * EXCLUDE (role, data_fingerprint) FROM t")
    rewrite(folder / "artifacts.parquet", "SELECT * EXCLUDE (round, details) FROM t")
    assert take_in(ours, folder).runs == [RUN]
    (participant, _) = ours.reader().query("participants", {"run_id": RUN})[:2]
    assert participant["role"] == ""
    old.close()


def test_a_sample_of_version_1_comes_in(ours: Store, tmp_path: Path) -> None:
    import gzip

    place = tmp_path / "v1.duckdb"
    place.write_bytes(gzip.decompress((Path(__file__).parent / "samples" / "store-v1.duckdb.gz").read_bytes()))
    assert take_in(ours, place).rows["runs"] >= 1


# --- what is none ------------------------------------------------------------------------------------------------
HOSTILE = {
    "a column more": ("runs", "SELECT *, 1 AS evil FROM t", "evil"),
    "a column less": ("runs", "SELECT * EXCLUDE (manifest) FROM t", "manifest"),
    "another type": ("metrics", "SELECT * REPLACE (value::VARCHAR AS value) FROM t", "value"),
    "a null": ("runs", "SELECT * REPLACE (NULL::VARCHAR AS name) FROM t", "name"),
    "a negative round": ("rounds", "SELECT * REPLACE ((-1)::INTEGER AS round) FROM t", "round"),
    "a round beyond all": ("metrics", "SELECT * REPLACE (2000000000::INTEGER AS round) FROM t", "round"),
    "a place at the end of numbers": (
        "metrics",
        "SELECT * REPLACE (9223372036854775807::BIGINT AS position) FROM t",
        "position",
    ),
    "a time that is none": ("logs", "SELECT * REPLACE ('infinity'::TIMESTAMP AS time) FROM t", "time"),
    "a time of another age": ("logs", "SELECT * REPLACE (TIMESTAMP '9999-01-01' AS time) FROM t", "time"),
    "what a terminal obeys": ("runs", "SELECT * REPLACE (chr(27) || '[2J' AS name) FROM t", "name"),
    "a bell in a log line": ("logs", "SELECT * REPLACE ('x' || chr(7) AS message) FROM t", "message"),
    "a name without end": ("runs", "SELECT * REPLACE (repeat('n', 100000) AS name) FROM t", "name"),
    "a line without end": ("logs", "SELECT * REPLACE (repeat('n', 2000000) AS message) FROM t", "message"),
    "JSON that is none": ("runs", "SELECT * REPLACE ('{' AS manifest) FROM t", "manifest"),
    "JSON of another form": ("runs", "SELECT * REPLACE ('[]' AS manifest) FROM t", "manifest"),
    "JSON without a bottom": (
        "runs",
        """SELECT * REPLACE ('{"a":' || repeat('[', 5000) || repeat(']', 5000) || '}' AS manifest) FROM t""",
        "manifest",
    ),
    "a scope of its own": ("metrics", "SELECT * REPLACE ('galactic' AS scope) FROM t", "scope"),
    "a level of its own": ("logs", "SELECT * REPLACE ('SHOUT' AS level) FROM t", "level"),
    "a path for a blob": ("models", "SELECT * REPLACE ('../../node.key' AS model) FROM t", "model"),
    "an endless duration": ("rounds", "SELECT * REPLACE ('inf'::DOUBLE AS seconds) FROM t", "seconds"),
    "a fact twice": ("runs", "SELECT * FROM t UNION ALL SELECT * FROM t", "runs"),
    "an event twice": ("logs", "SELECT * FROM t UNION ALL SELECT * FROM t", "logs"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_fednode_writes_is_refused_and_nothing_comes_in(
    name: str, theirs: Store, ours: Store, tmp_path: Path
) -> None:
    table, statement, word = HOSTILE[name]
    folder = exported(theirs, tmp_path / "given")
    rewrite(folder / f"{table}.parquet", statement)
    with pytest.raises(Refused) as refused:
        take_in(ours, folder)
    assert refused.value.code == "bad-import"
    assert word in refused.value.what
    assert refused.value.remedy
    assert all(rows_of(ours, name) == [] for name in TAKEN)
    assert ours.path is not None
    assert os.listdir(work_folder(ours.path)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"\xff" * 5000],
    ids=["empty", "begins", "zeros", "ones"],
)
def test_a_file_that_is_no_parquet_is_refused(content: bytes, theirs: Store, ours: Store, tmp_path: Path) -> None:
    folder = exported(theirs, tmp_path / "given")
    (folder / "metrics.parquet").write_bytes(content)
    with pytest.raises(Refused, match="metrics"):
        take_in(ours, folder)
    assert rows_of(ours, "runs") == []


@pytest.mark.parametrize("content", [b"", b"no store", b"\0" * 10_000], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_store_is_refused(content: bytes, ours: Store, tmp_path: Path) -> None:
    (tmp_path / "none.duckdb").write_bytes(content)
    with pytest.raises(Refused):
        take_in(ours, tmp_path / "none.duckdb")


def test_a_store_that_is_not_fednodes_is_refused(ours: Store, tmp_path: Path) -> None:
    foreign = duckdb.connect(str(tmp_path / "foreign.duckdb"))
    foreign.execute("CREATE TABLE runs (x INTEGER)")
    foreign.close()
    with pytest.raises(Refused):
        take_in(ours, tmp_path / "foreign.duckdb")


def test_a_view_in_a_store_is_not_followed(theirs: Store, ours: Store, tmp_path: Path) -> None:
    """A table may be a view that reads some other file of ours, or never ends."""
    secret = tmp_path / "secret.csv"
    secret.write_text("message\nsecret\n")
    source = backed_up(theirs, tmp_path / "given")
    connection = duckdb.connect(str(source))
    connection.execute("DROP TABLE elections")
    connection.execute(
        "CREATE VIEW elections AS SELECT message AS run_id, 1::BIGINT AS term, '' AS aggregator,"
        f" TIMESTAMP '2026-01-01' AS time FROM read_csv('{secret}')"
    )
    connection.close()
    take_in(ours, source)
    assert rows_of(ours, "elections") == []


def test_a_newer_fednodes_export_or_store_is_refused(theirs: Store, ours: Store, tmp_path: Path) -> None:
    folder = exported(theirs, tmp_path / "given")
    (folder / MANIFEST).write_text(json.dumps({"store_version": VERSION + 1}))
    with pytest.raises(Refused, match=f"version {VERSION + 1}") as refused:
        take_in(ours, folder)
    assert refused.value.code == "import-too-new"
    for wrong in ("", "[]", '{"store_version": "2"}', '{"store_version": true}', "[" * 4000, "x" * 10_000):
        (folder / MANIFEST).write_text(wrong)
        with pytest.raises(Refused):
            take_in(ours, folder)
    source = backed_up(theirs, tmp_path / "store")
    connection = duckdb.connect(str(source))
    connection.execute("INSERT INTO store_version VALUES (99)")
    connection.close()
    with pytest.raises(Refused, match="version 99"):
        take_in(ours, source)


def test_a_store_that_is_in_use_is_said_to_be(ours: Store, theirs: Store, tmp_path: Path) -> None:
    import subprocess
    import sys

    source = backed_up(theirs, tmp_path / "given")
    code = f"import duckdb, sys; c = duckdb.connect({str(source)!r}); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(FednodeError, match="in use") as error:
            take_in(ours, source)
        assert "backup" in error.value.remedy
    finally:
        holder.communicate(timeout=30)


def test_an_import_that_fails_half_way_leaves_nothing(theirs: Store, ours: Store, tmp_path: Path) -> None:
    assert ours.path is not None
    staged = stage(exported(theirs, tmp_path / "given"), work_folder(ours.path) / "import-1.duckdb")
    damaged = duckdb.connect(str(staged.path))
    damaged.execute("DROP TABLE nodes")  # the last but one that is taken in
    damaged.close()
    with pytest.raises(FednodeError):
        merge(ours, staged.path, Rules(), NOW)
    assert all(rows_of(ours, name) == [] for name in TAKEN)
    assert ours.write([replace(row, node_id="x") for row in every_row() if isinstance(row, LogRow)]) == 2
    with pytest.raises(Refused, match="gone"):
        merge(ours, staged.path.with_name("import-2.duckdb"), Rules(), NOW)


def test_another_run_of_another_node_comes_beside_ours(theirs: Store, ours: Store, tmp_path: Path) -> None:
    ours.write(every_row(OTHER, "us"))
    take_in(ours, exported(theirs, tmp_path / "given"))
    assert {row["run_id"] for row in ours.reader().query("runs", {})} == {RUN, OTHER}
    assert [row["name"] for row in ours.reader().query("registered_models", {})] == ["best"]  # ours, still
    assert ours.reader().query("registered_models", {})[0]["run_id"] == OTHER
