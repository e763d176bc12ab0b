"""What another node has exported comes in whole, once, and over nothing; of what is refused nothing comes in."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from record_rows import BLOBS, OTHER, RUN, every_row

from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs import BlobStore
from tracker.chunks import blob_id_of_data
from tracker.connect import work_folder
from tracker.copies import copy_stopped
from tracker.export_parquet import export_tables
from tracker.import_blobs import take_given
from tracker.import_merge import Merged, merge
from tracker.import_read import LOCAL_TABLES, MANIFEST, stage
from tracker.retention import Rules
from tracker.rows import DecisionRow, LogRow, MetricRow, ModelRow, RoundRow, RunRow, SpanRow, StatusRow
from tracker.schema import TABLES, VERSION
from tracker.store import Store

NOW = 1_790_000_100.0
TAKEN = [table.name for table in TABLES.values() if table.name not in LOCAL_TABLES]


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


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "theirs" / "record.duckdb")
    store.write(every_row())
    yield store
    store.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "ours" / "record.duckdb")
    yield store
    store.close()


def take_in(store: Store, source: Path, rules: Rules | None = None) -> Merged:
    assert store.path is not None
    staged = stage(source, work_folder(store.path) / "import-1.duckdb")
    try:
        return merge(store, staged.path, rules or Rules(), NOW)
    finally:
        staged.path.unlink()


def rows_of(store: Store, name: str) -> list[str]:
    """Without their positions, which are each store's own."""
    found = store._connection.execute(f"SELECT COLUMNS(lambda c: c <> 'position') FROM {name}").fetchall()
    return sorted(map(repr, found))


Give = Callable[[Store, Path], Path]


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


def test_an_import_changes_no_figure_of_a_run_that_this_node_saw_itself(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    """Who exports may write what they like: other numbers, nodes, rounds and models."""
    ours.write(every_row())
    told = MetricRow(RUN, "n1", "global", "eval", "accuracy", None, 1, 0, 0, 0.99, 20, NOW, "n1", 900)
    step = MetricRow(RUN, "n1", "local", "train", "loss", "cat", 1, 1, 7, 0.25, 8, NOW, "n1", 901)
    forged = [
        *[replace(told, node_id=node, source_node=node, round=round_) for node in ("n1", "n2") for round_ in (1, 3)],
        replace(told, node_id="n3", source_node="n3", step=1, round=2),
        *[ModelRow(RUN, number, "01" * 32, "03" * 32, 40, NOW) for number in (998, 999)],
        RoundRow(RUN, 998, 9, "n2", "ee" * 32, "01" * 32, NOW, 2, "[]", 9, 0.5),
        StatusRow(RUN, "", "FAILED", "forged", 1, NOW, 900, "n2"),
        step,
        replace(step, step=8, sequence=902),
        replace(step, node_id="n2", source_node="n2", round=3, sequence=903),
    ]
    beside = [
        replace(step, node_id="n2", source_node="n2"),
        SpanRow(RUN, "n2", 1, "train", "", NOW, 0.5, 0, "n2", 900),
        LogRow("n2", RUN, "INFO", "task", "said", NOW, 900),
    ]
    theirs.write([*forged, *beside])

    def shown() -> list[Any]:
        reader = ours.reader()
        try:
            queries = ("run", "rounds", "metrics", "committed_models", "participants")
            return [
                [
                    row
                    for row in reader.query(name, {"run_id": RUN})
                    if row.get("step", 0) == 0 or row["node_id"] != "n2"
                ]
                for name in queries
            ]
        finally:
            reader.close()

    before = shown()
    merged = take_in(ours, exported(theirs, tmp_path / "given"))
    assert repr(shown()) == repr(before)  # one of the figures is no number
    assert merged.rows == {"metrics": 1, "spans": 1, "logs": 1}
    assert merged.runs == []


def test_of_a_run_that_nobody_here_took_part_in_everything_comes_in(theirs: Store, ours: Store, tmp_path: Path) -> None:
    """It was declined, so this node knows nothing of it; what comes in later adds to what came in before."""
    ours.write([row for row in every_row() if isinstance(row, RunRow)] + [DecisionRow(RUN, "declined", "", 1.0)])
    take_in(ours, exported(theirs, tmp_path / "given"))
    assert len(ours.reader().query("rounds", {"run_id": RUN})) == 2
    theirs.write([RoundRow(RUN, 3, 1, "n1", "ee" * 32, "01" * 32, NOW, 2, "[]", 9, 0.5)])
    assert take_in(ours, exported(theirs, tmp_path / "later")).rows == {"rounds": 1}
    ours.write([DecisionRow(RUN, "accepted", "", 2.0)])
    theirs.write([RoundRow(RUN, 4, 1, "n1", "ef" * 32, "01" * 32, NOW, 2, "[]", 9, 0.5)])
    assert take_in(ours, exported(theirs, tmp_path / "too-late")).rows == {}


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


# --- models beside it --------------------------------------------------------------------------------------------
def test_of_models_only_named_plain_sound_files_come_in(tmp_path: Path) -> None:
    """The folder may hold what never ends, what is somebody else's, and what nobody asked for."""
    given, home = tmp_path / "given", tmp_path / "home"
    given.mkdir()
    contents = [b"a model", b"x" * (CHUNK_BYTES + 1), b"", b"changed", b"not named", b"behind a link", b"a pipe"]
    sound, large, empty, changed, unnamed, linked, pipe = blobs = [blob_id_of_data(content) for content in contents]
    for blob, content in zip(blobs[:5], contents, strict=False):
        (given / blob).write_bytes(content)
    (given / changed).write_bytes(b"another")
    (tmp_path / "target").write_bytes(b"behind a link")
    (given / linked).symlink_to(tmp_path / "target")
    zero = BlobId("ab" * 32)
    (given / zero).symlink_to("/dev/zero")
    os.mkfifo(given / pipe)
    named = {*blobs, zero, BlobId("cd" * 32), "../home"} - {unnamed}
    store = BlobStore(home)
    assert take_given(store, given, named, tmp_path) == (3, 4)
    assert store.blobs() == sorted([sound, large, empty])
    assert [path for folder in ("new", "half") for path in (home / folder).iterdir()] == []
    assert take_given(store, given, [sound], tmp_path) == (0, 0)


def test_models_that_would_fill_the_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.import_blobs.shutil.disk_usage", lambda _: SimpleNamespace(free=13))
    blob = blob_id_of_data(b"a model")
    (tmp_path / blob).write_bytes(b"a model")
    with pytest.raises(Refused, match="7 bytes, and 13 are free"):
        take_given(BlobStore(tmp_path / "blobs"), tmp_path, [blob], tmp_path)


def test_an_import_says_which_models_it_names(theirs: Store, ours: Store, tmp_path: Path) -> None:
    """Of a run that this node saw itself those that its own record names too."""
    source = exported(theirs, tmp_path / "given")
    assert take_in(ours, source).blobs == {*BLOBS, "04" * 32}
    seen = Store(tmp_path / "seen" / "record.duckdb")
    seen.write([row for row in every_row() if isinstance(row, DecisionRow | ModelRow)][:2])
    assert take_in(seen, source).blobs == {BLOBS[0], BLOBS[2]}
    seen.close()


# --- what is none ------------------------------------------------------------------------------------------------
def rewrite(path: Path, statement: str) -> None:
    """Write a Parquet file anew from what is in it, as the table t."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}')")
    connection.execute(f"COPY ({statement}) TO '{path}' (FORMAT parquet)")
    connection.close()


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


@pytest.mark.parametrize("give", [exported, backed_up])
def test_what_would_be_too_large_unpacked_is_refused_before_it_is_unpacked(
    give: Give, theirs: Store, ours: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that comes again and again takes next to nothing in a file."""
    many = """SELECT l.* REPLACE (repeat('n', 2000) AS message, i + 10 AS sequence, i + 10 AS position)
        FROM (FROM {0} LIMIT 1) l, range(20000) r(i)"""
    source = give(theirs, tmp_path / "given")
    if source.is_dir():
        rewrite(source / "logs.parquet", many.format("t"))
    else:
        with duckdb.connect(str(source)) as connection:
            connection.execute(f"INSERT INTO logs {many.format('logs')}")
    assert (source / "logs.parquet" if source.is_dir() else source).stat().st_size < 12_000_000
    monkeypatch.setattr("tracker.import_read.check_rows", lambda *_, **__: pytest.fail("it was unpacked"))
    monkeypatch.setattr("tracker.import_read.tables", lambda: ["logs"] if source.is_file() else ["logs", "runs"])
    monkeypatch.setattr("tracker.import_read.UNPACKED_BYTES_MAX", 20_000_000)
    with pytest.raises(Refused, match=r"The table logs has 4.,...,... bytes") as refused:
        take_in(ours, source)
    assert refused.value.code == "import-too-large"
    monkeypatch.setattr("tracker.import_read.UNPACKED_BYTES_MAX", 2**40)
    monkeypatch.setattr("tracker.import_read.shutil.disk_usage", lambda _: SimpleNamespace(free=80_000_000))
    with pytest.raises(Refused, match="20,000,000 may still come in"):
        take_in(ours, source)
    monkeypatch.setattr("tracker.import_rules.ROWS_MAX", 19_999)
    with pytest.raises(Refused, match=r"20,00. rows; 19,999 are the most"):
        take_in(ours, source)
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
