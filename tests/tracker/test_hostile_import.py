"""An import that was written to do harm: it changes no figure that this node saw, and takes neither disk nor models."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from import_ground import NOW, Give, backed_up, exported, rewrite, take_in
from record_rows import BLOBS, RUN, every_row

from protocol.errors import Refused
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of_data
from tracker.imports.blobs import take_given
from tracker.store import Store
from tracker.tables.connect import work_folder
from tracker.tables.rows import DecisionRow, LogRow, MetricRow, ModelRow, RoundRow, Row, RunRow, SpanRow, StatusRow


def test_an_import_changes_no_figure_of_a_run_that_this_node_saw_itself(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    """Who exports may write what they like: other numbers, nodes, rounds and models."""
    ours.write(every_row())
    told = MetricRow(RUN, "n1", "global", "eval", "accuracy", None, 1, 0, 0, 0.99, 20, NOW, "n1", 900)
    step = MetricRow(RUN, "n1", "local", "train", "loss", "cat", 1, 1, 7, 0.25, 8, NOW, "n1", 901)
    forged: list[Row] = [
        *[replace(told, node_id=node, source_node=node, round=round_) for node in ("n1", "n2") for round_ in (1, 3)],
        replace(told, node_id="n3", source_node="n3", step=1, round=2),
        *[ModelRow(RUN, number, "01" * 32, "03" * 32, 40, NOW) for number in (998, 999)],
        RoundRow(RUN, 998, 9, "n2", "ee" * 32, "01" * 32, NOW, 2, "[]", 9, 0.5),
        StatusRow(RUN, "", "FAILED", "forged", 1, NOW, 900, "n2"),
        step,
        replace(step, step=8, sequence=902),
        replace(step, node_id="n2", source_node="n2", round=3, sequence=903),
    ]
    beside: list[Row] = [
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
    monkeypatch.setattr("tracker.imports.blobs.shutil.disk_usage", lambda _: SimpleNamespace(free=13))
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
    monkeypatch.setattr("tracker.imports.read.check_rows", lambda *_, **__: pytest.fail("it was unpacked"))
    monkeypatch.setattr("tracker.imports.read.tables", lambda: ["logs"] if source.is_file() else ["logs", "runs"])
    monkeypatch.setattr("tracker.imports.read.UNPACKED_BYTES_MAX", 20_000_000)
    with pytest.raises(Refused, match=r"The table logs has 4.,...,... bytes") as refused:
        take_in(ours, source)
    assert refused.value.code == "import-too-large"
    monkeypatch.setattr("tracker.imports.read.UNPACKED_BYTES_MAX", 2**40)
    monkeypatch.setattr("tracker.imports.read.shutil.disk_usage", lambda _: SimpleNamespace(free=80_000_000))
    with pytest.raises(Refused, match="20,000,000 may still come in"):
        take_in(ours, source)
    monkeypatch.setattr("tracker.imports.rules.ROWS_MAX", 19_999)
    with pytest.raises(Refused, match=r"20,00. rows; 19,999 are the most"):
        take_in(ours, source)
    assert ours.path is not None
    assert os.listdir(work_folder(ours.path)) == []
