"""Copies of a store: to keep, and to take its own place; and looking a store through."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from record_rows import OTHER, RUN, every_row

from protocol.errors import FednodeError
from tracker.copies import bytes_of, compact, copy_stopped, write_copy
from tracker.retention import Kept, remove
from tracker.store import Store, open_stopped
from tracker.tables.check import Finding, check_tables
from tracker.tables.connect import work_folder
from tracker.tables.rows import LogRow, MetricRow, RoundRow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "record.duckdb")
    store.write(every_row())
    yield store
    store.close()


def everything(store: Store) -> dict[str, list[str]]:
    names = store._connection.execute("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'store_marks'")
    return {
        name: sorted(map(repr, store._connection.execute(f"SELECT * FROM {name}").fetchall()))
        for (name,) in names.fetchall()
    }


def copy_of(store: Store, name: str = "copy.duckdb", *, is_backup: bool = False) -> Path:
    assert store.path is not None
    target = work_folder(store.path) / name
    write_copy(store, target, is_backup=is_backup)
    return target


def test_compacting_gives_room_back_and_loses_nothing(store: Store) -> None:
    assert store.path is not None
    many = """INSERT INTO logs SELECT 'n', '', 'INFO', 'l', md5(i::VARCHAR) || md5((i + 1)::VARCHAR),
        TIMESTAMP '2020-01-01' + to_seconds(i), i, i + 100 FROM range(400000) t(i)"""
    store.change(lambda connection: connection.execute(many))
    store.change(lambda connection: remove(connection, "logs", Kept(rows=10), 2e9, ()))
    store._connection.execute("CHECKPOINT")
    before, rows = bytes_of(store.path), everything(store)
    store.replace_file(copy_of(store))
    assert everything(store) == rows
    assert bytes_of(store.path) < before / 2
    assert store.path.stat().st_mode & 0o777 == 0o600
    known = LogRow("n", "", "INFO", "l", "said again", 1.6e9, 399_999)
    assert store.write([known, replace(known, sequence=400_000)]) == 1  # it still knows what it has seen
    with pytest.raises(FednodeError):
        store.change(lambda connection: connection.execute("INSERT INTO decisions SELECT * FROM decisions"))


def test_a_copy_keeps_keys_and_views(store: Store) -> None:
    store.replace_file(copy_of(store))
    assert store.write(every_row()) > 0  # facts are replaced, not added
    assert check_tables(store._connection).findings == []
    assert store.reader().query("run", {"run_id": RUN})[0]["state"] == "FINISHED"


def test_a_process_killed_while_it_compacts_leaves_the_store_whole(store: Store, tmp_path: Path) -> None:
    """At every step that the system sees: before and after the copy, and before and after it takes the place."""
    rows = everything(store)
    store.close()
    for step in range(4):
        code = f"""
import os
from pathlib import Path
from tracker.store import Store
from tracker.copies import write_copy
from tracker.tables.connect import work_folder
path, step = Path({str(store.path)!r}), {step}
store = Store(path)
if step == 0:
    store.beside = lambda work: os._exit(9)
if step == 2:
    os.replace = lambda *_: os._exit(9)
write_copy(store, work_folder(path) / "compacted.duckdb", is_backup=False)
if step == 1:
    os._exit(9)
if step == 3:
    store._open_again = lambda: os._exit(9)
store.replace_file(work_folder(path) / "compacted.duckdb")
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 9, done.stderr
        store._open()
        assert everything(store) == rows
        store.close()
    store._open()


def test_a_backup_opens_anywhere_and_says_that_it_may_lack_what_came_later(store: Store, tmp_path: Path) -> None:
    rows = everything(store)
    marks = store.reader().query("store_marks", {})
    assert [mark["name"] for mark in marks] == ["whole_since"]
    copy = copy_of(store, is_backup=True)
    os.rename(copy, tmp_path / "elsewhere.duckdb")
    kept = open_stopped(tmp_path / "elsewhere.duckdb")
    assert kept.reader().query("store_marks", {}) == [{"name": "whole_since", "time": None}]
    kept.close()
    put_back = Store(tmp_path / "elsewhere.duckdb")
    assert everything(put_back) == rows
    assert put_back.reader().query("store_marks", {})[0]["time"] > marks[0]["time"]
    put_back.close()


def test_a_stopped_store_can_be_copied_without_being_written(store: Store, tmp_path: Path) -> None:
    assert store.path is not None
    store.close()
    before = store.path.read_bytes()
    counts = copy_stopped(store.path, tmp_path / "copy.duckdb")
    assert store.path.read_bytes() == before
    copied = Store(tmp_path / "copy.duckdb")
    assert {name: len(rows) for name, rows in everything(copied).items()} | {"store_marks": 1} == counts
    copied.close()
    with pytest.raises(FednodeError, match="There is no store"):
        copy_stopped(tmp_path / "nothing", tmp_path / "copy.duckdb")
    store._open()
    with pytest.raises(FednodeError):
        copy_stopped(store.path, tmp_path / "another.duckdb")


def test_only_the_work_folder_can_be_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FednodeError, match="could not be written"):
        write_copy(store, tmp_path / "elsewhere" / "copy.duckdb", is_backup=False)


# --- a disk that takes no more -----------------------------------------------------------------------------------
@contextmanager
def no_file_longer_than(kib: int) -> Iterator[None]:
    """What a full disk does to the files that are written here, for real."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_of_copies(store: Store) -> list[str]:
    assert store.path is not None
    folder = work_folder(store.path)
    return sorted(os.listdir(folder)) if folder.exists() else []


class Connection:
    """DuckDB's, where something goes wrong that it does not tell."""

    def __init__(self, real: Any, after_copying: str = "SELECT 1") -> None:
        self._real, self._after_copying = real, after_copying

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement.startswith(("CHECKPOINT", "DETACH")):
            try:
                return self._real.execute(statement)
            except duckdb.Error:
                return None
        done = self._real.execute(statement, *arguments)
        return self._real.execute(self._after_copying) if statement.startswith("COPY") else done


# 16: its journal is not written; the others: it is, and cannot be folded into the copy.
@pytest.mark.parametrize("kib", [16, 64, 512, 4096])
def test_compacting_on_a_full_disk_loses_nothing(store: Store, kib: int) -> None:
    store._connection.execute("CHECKPOINT")
    rows = everything(store)
    with no_file_longer_than(kib), pytest.raises(FednodeError, match="File too large"):
        compact(store)
    store.close()
    assert left_of_copies(store) == []
    store._open()
    assert everything(store) == rows
    compact(store)
    assert everything(store) == rows


@pytest.mark.parametrize("kib", [16, 64, 512, 4096])
def test_no_backup_is_left_by_a_full_disk(store: Store, tmp_path: Path, kib: int) -> None:
    assert store.path is not None
    store._connection.execute("CHECKPOINT")
    with no_file_longer_than(kib), pytest.raises(FednodeError, match="File too large"):
        copy_of(store, is_backup=True)
    assert left_of_copies(store) == []
    assert len(everything(store)["metrics"]) == 3  # it goes on
    store.close()
    with no_file_longer_than(kib), pytest.raises(FednodeError, match="File too large"):
        copy_stopped(store.path, tmp_path / "copy.duckdb")
    assert list(tmp_path.glob("copy*")) == []


def test_a_copy_is_opened_alone_before_anybody_relies_on_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store._connection.execute("CHECKPOINT")
    rows = everything(store)
    monkeypatch.setattr(store, "beside", lambda work: work(Connection(store._connection)))
    with no_file_longer_than(64), pytest.raises(FednodeError, match="not written whole"):
        compact(store)
    for table in ("metrics", "store_marks"):
        lossy = Connection(store._connection, f"DELETE FROM copied.{table}")
        monkeypatch.setattr(store, "beside", lambda work, lossy=lossy: work(lossy))
        with pytest.raises(FednodeError, match="other rows"):
            compact(store)
    assert (left_of_copies(store), everything(store)) == ([], rows)


def test_a_copy_with_a_journal_beside_it_takes_no_place(store: Store) -> None:
    copy = copy_of(store)
    copy.with_name(copy.name + ".wal").write_bytes(b"rows")
    with pytest.raises(FednodeError, match="not written whole"):
        store.replace_file(copy)
    assert len(everything(store)["metrics"]) == 3


def test_room_is_asked_for_before_anything_is_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.path is not None
    store._connection.execute("CHECKPOINT")
    used, usage = store.path.stat().st_size, shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(1.9 * used)))
    for copying in (lambda: compact(store), lambda: copy_of(store, is_backup=True)):
        with pytest.raises(FednodeError, match="MB are free"):
            copying()
    assert left_of_copies(store) == []
    store.close()
    with pytest.raises(FednodeError, match="MB are free"):
        copy_stopped(store.path, tmp_path / "copy.duckdb")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * used))
    copy_stopped(store.path, tmp_path / "copy.duckdb")
    store._open()
    store.write([LogRow("n", "", "INFO", "l", "in the journal", 2e9, number) for number in range(1000)])
    with pytest.raises(FednodeError, match="MB are free"):
        compact(store)


def test_a_copy_that_cannot_take_the_place_is_not_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write([LogRow("n", "", "INFO", "l", f"{n * 7919 % 10007} " * 9, 1e9 + n, n) for n in range(20_000)])
    store._connection.execute("CHECKPOINT")
    store.change(lambda connection: remove(connection, "logs", Kept(rows=10), 2e9, ()))
    rows = everything(store)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(FednodeError, match="No space left"):
            compact(store)
    assert (left_of_copies(store), everything(store)) == ([], rows)


def test_a_backup_beside_another_ones_journal_is_told_so(store: Store, tmp_path: Path) -> None:
    """Put back after a kill."""
    assert store.path is not None
    store._connection.execute("CHECKPOINT")
    copy = copy_of(store, is_backup=True)
    store.write([LogRow("n", "", "INFO", "l", "more", 2e9, 1)])
    place = tmp_path / "home" / "record.duckdb"
    place.parent.mkdir()
    os.rename(copy, place)
    shutil.copy(f"{store.path}.wal", f"{place}.wal")
    with pytest.raises(FednodeError) as caught:
        Store(place)
    assert f"{place}.wal" in caught.value.remedy
    Path(f"{place}.wal").unlink()
    Store(place).close()


# --- looking through ---------------------------------------------------------------------------------------------
def test_a_sound_store_has_nothing_wrong_with_it(store: Store) -> None:
    checked = check_tables(store._connection)
    assert checked.findings == []
    assert checked.rows["metrics"] == 3


def test_what_no_fednode_writes_is_found(store: Store) -> None:
    twice = MetricRow(RUN, "n1", "local", "train", "loss", None, 1, 0, 0, 1.0, 8, 1.5, "n1", 64)
    store._marks["metrics"].clear()
    store._known = lambda table, keys: set()  # type: ignore[method-assign]
    store.write([twice, RoundRow(OTHER, 1, 1, "n", "c", "m", 1.0, 1, "[]", 1, 0.5)])
    found = {finding.what: finding.is_error for finding in check_tables(store._connection).findings}
    assert [is_error for what, is_error in found.items() if "twice" in what] == [True]
    assert [is_error for what, is_error in found.items() if OTHER[:12] in what] == [False]


def test_a_missing_column_or_table_is_found(store: Store) -> None:
    store._connection.execute("ALTER TABLE spans DROP COLUMN bytes")
    store._connection.execute("DROP VIEW lineage")
    store._connection.execute("DROP TABLE elections")
    wrong = [finding.what for finding in check_tables(store._connection).findings]
    assert any("spans" in what and "bytes" in what for what in wrong)
    assert any("elections" in what for what in wrong)
    assert any("lineage" in what for what in wrong)


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "record.duckdb"
    store = Store(path)
    store.write([LogRow("n", "", "INFO", "l", f"{n * 7919 % 10007} " * 9, 1e9 + n, n) for n in range(50_000)])
    store.close()
    raw = bytearray(path.read_bytes())
    for place in range(len(raw) // 2, len(raw) // 2 + 64):
        raw[place] ^= 0xFF
    path.write_bytes(raw)
    try:
        found = check_tables(open_stopped(path)._connection).findings
    except FednodeError as error:
        found = [Finding(error.what, error.remedy)]
    assert any(finding.is_error for finding in found)


def test_no_other_file_can_be_read_by_a_statement(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(duckdb.Error):
        store._connection.execute(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')").fetchall()
