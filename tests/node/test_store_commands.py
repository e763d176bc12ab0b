"""fednode store, import and data show: over the API of a node, and on the files of one that is stopped."""

import json
import os
from pathlib import Path

import pytest
from command_ground import as_json, run
from memory_service import MemoryService

from tracker.blobs.blobs import BlobStore
from tracker.store import Store, open_stopped
from tracker.tables.rows import LogRow, ModelRow, RunRow, StatusRow

RUN = RunRow("aa" * 32, "study", "p", "e", "g", "digits", "digits", "n1", 2, 1.0, "{}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a stopped node with one run, one model, and a journal."""
    home = tmp_path / "home"
    monkeypatch.setenv("FEDNODE_HOME", str(home))
    blobs = BlobStore(home / "blobs")
    model, schema = blobs.put(b"a model"), blobs.put(b"a schema")
    store = Store(home / "record.duckdb")
    states = [StatusRow(RUN.run_id, "", state, "", 0, 1.0, n, "n1") for n, state in enumerate(("RUNNING", "FINISHED"))]
    store.write(
        [RUN, *states, ModelRow(RUN.run_id, 1, model, schema, 7, 1.0), LogRow("n1", "", "INFO", "l", "up", 2e9, 1)]
    )
    store.close()
    (home / "journals").mkdir()
    return home


# --- through a node ----------------------------------------------------------------------------------------------
def test_retention_is_shown_and_set(service: MemoryService) -> None:
    assert "90d" in run("store", "retention").output
    told = as_json("store", "retention", "--set", "logs=30d", "--set", "checkpoints=first,last=2")
    kept = {entry["kind"]: entry["kept"] for entry in told}
    assert (kept["logs"], kept["checkpoints"], kept["spans"]) == ("30d", "first,last=2", "365d")
    refused = run("store", "retention", "--set", "logs=soon")
    assert (refused.exit_code, "logs=soon" in refused.output, "30d" in refused.output) == (2, True, True)
    assert run("store", "retention", "--set", "logs").exit_code == 2


def test_pruning_says_what_goes(service: MemoryService) -> None:
    text = run("store", "prune", "--dry-run").output
    assert "WOULD GO" in text
    assert "1,200 rows" in text
    assert "2 blobs" in text
    assert "nothing much" in text
    assert as_json("store", "prune")["blobs"]["checkpoints"]["bytes"] == 2048
    assert [call for call in service.calls if call[0] == "prune"] == [("prune", True), ("prune", False)]


def test_compacting_and_checking_through_the_node(service: MemoryService) -> None:
    assert as_json("store", "compact") == {"bytes_before": 4096, "bytes_after": 1024}
    assert "is sound" in run("store", "check").output
    service.store.findings = [{"what": "a thing", "remedy": "do that", "error": True}]
    wrong = run("store", "check", "--deep")
    assert (wrong.exit_code, "a thing" in wrong.output, "do that" in wrong.output) == (1, True, True)


def test_a_backup_is_written_whole_or_not_at_all(service: MemoryService, tmp_path: Path) -> None:
    file = tmp_path / "kept" / "copy.duckdb"
    told = as_json("store", "backup", file)
    assert (file.read_bytes(), told["bytes"]) == (service.store.copy, len(service.store.copy))
    again = run("store", "backup", file)
    assert (again.exit_code, "--force" in again.output) == (1, True)
    service.store.copy = b"another"
    as_json("store", "backup", file, "--force")
    assert file.read_bytes() == b"another"
    assert os.listdir(file.parent) == ["copy.duckdb"]


def test_an_import_hands_a_clean_file_to_the_node(service: MemoryService, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.duckdb")
    other.write([RUN])
    other.close()
    assert as_json("import", tmp_path / "other.duckdb")["runs"] == ["r"]
    ((_, name, models),) = [call for call in service.calls if call[0] == "take in"]
    assert name.startswith("import-")
    assert models is None
    assert "7 rows are older" in run("import", tmp_path / "other.duckdb").output
    (tmp_path / "none.duckdb").write_bytes(b"no store")
    refused = run("import", tmp_path / "none.duckdb")
    assert (refused.exit_code, "To fix" in refused.output) == (2, True)
    assert len([call for call in service.calls if call[0] == "take in"]) == 2
    assert list((tmp_path / "home" / "record.duckdb.work").iterdir()) == []


def test_data_show(service: MemoryService, tmp_path: Path) -> None:
    as_json("data", "add", "pictures", tmp_path)
    assert as_json("data", "show", "pictures")["statistics"]["files"] == 3
    assert "cat" in run("data", "show", "pictures").output
    assert run("data", "show", "nothing").exit_code == 1


def test_a_nodes_own_record_is_no_place_for_a_backup(service: MemoryService, tmp_path: Path) -> None:
    home = tmp_path / "home"
    record = home / "record.duckdb"
    for name in (record, home / "record.duckdb.wal", home / ".." / "home" / "record.duckdb"):
        refused = run("store", "backup", name, "--force")
        assert (refused.exit_code, "is the record itself" in refused.output) == (1, True), refused.output
    assert "is the record itself" in run("store", "backup", home, "--with-models", "--force").output
    assert "emptied" in run("store", "backup", home / "record.duckdb.work" / "copy.duckdb").output
    other = Store(tmp_path / "other.duckdb")
    other.close()
    onto = run("store", "backup", record, "--force", "--store", tmp_path / "other.duckdb")
    assert (onto.exit_code, "is the record itself" in onto.output) == (1, True)
    assert not record.exists()


# --- without one -------------------------------------------------------------------------------------------------
def test_a_stopped_nodes_record_is_checked(home: Path) -> None:
    told = as_json("store", "check", "--deep")
    assert told["ok"]
    assert told["rows"]["runs"] == 1
    (home / "journals" / "run-x").write_bytes(b"\xf5JR\x01 torn at the end")
    assert as_json("store", "check")["ok"]


def test_damage_is_found_and_said(home: Path) -> None:
    from tracker.journal import Journal

    journal = Journal(home / "journals" / "run-x")
    for number in range(3):
        journal.append(b"a vote %d" % number)
    journal.close()
    raw = bytearray((home / "journals" / "run-x").read_bytes())
    raw[20] ^= 1
    (home / "journals" / "run-x").write_bytes(raw)
    model = max((home / "blobs" / "whole").iterdir(), key=lambda path: path.read_bytes() == b"a model")
    model.write_bytes(b"a m0del")
    told = json.loads(run("store", "check", "--deep", "--json").stdout)
    assert not told["ok"]
    assert sum(finding["error"] for finding in told["findings"]) == 2
    assert run("store", "check").exit_code == 1
    model.unlink()
    told = json.loads(run("store", "check", "--json").stdout)
    assert [finding["what"] for finding in told["findings"] if not finding["error"]] == [
        "1 models that the record names are not on this disk"
    ]


def test_a_file_is_looked_at_by_name(home: Path, tmp_path: Path) -> None:
    (home / "record.duckdb").rename(tmp_path / "elsewhere.duckdb")
    assert as_json("store", "check", "--store", tmp_path / "elsewhere.duckdb")["ok"]
    nothing = run("store", "check")
    assert (nothing.exit_code, "fednode start" in nothing.output) == (1, True)
    (tmp_path / "damaged.duckdb").write_bytes(b"\0" * 50_000)
    assert run("store", "check", "--store", tmp_path / "damaged.duckdb").exit_code == 1


def test_a_stopped_nodes_record_is_compacted(home: Path) -> None:
    told = as_json("store", "compact")
    assert told["bytes_after"] <= told["bytes_before"]
    assert as_json("store", "check")["rows"]["runs"] == 1


def test_a_stopped_nodes_record_is_not_replaced_by_its_own_backup(home: Path, tmp_path: Path) -> None:
    record = home / "record.duckdb"
    (tmp_path / "link.duckdb").symlink_to(record)
    os.link(record, tmp_path / "same.duckdb")
    before = (record.stat().st_ino, record.read_bytes())
    for name in (record, tmp_path / "link.duckdb", tmp_path / "same.duckdb"):
        refused = run("store", "backup", name, "--force")
        assert (refused.exit_code, "is the record itself" in refused.output) == (1, True), refused.output
    assert (record.stat().st_ino, record.read_bytes()) == before


def test_a_backup_beside_another_ones_journal_is_refused(home: Path, tmp_path: Path) -> None:
    """It would not open there."""
    (tmp_path / "copy.duckdb.wal").write_bytes(b"of a store that was killed")
    refused = run("store", "backup", tmp_path / "copy.duckdb")
    assert (refused.exit_code, "copy.duckdb.wal" in refused.output) == (1, True)
    assert not (tmp_path / "copy.duckdb").exists()
    (tmp_path / "copy.duckdb.wal").unlink()
    as_json("store", "backup", tmp_path / "copy.duckdb")


def test_a_nodes_own_record_is_not_imported(home: Path) -> None:
    for source in (home / "record.duckdb", home):
        refused = run("import", source)
        assert (refused.exit_code, "this node's own record" in refused.output) == (1, True), refused.output


def test_a_backup_with_models_goes_into_another_node(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = as_json("store", "backup", tmp_path / "kept", "--with-models")
    assert (told["models"], told["models_missing"]) == (2, 0)
    there = tmp_path / "there"
    Store(there / "record.duckdb").close()
    monkeypatch.setenv("FEDNODE_HOME", str(there))
    told = as_json("import", tmp_path / "kept")
    assert (told["runs"], told["blobs"], told["blobs_damaged"]) == ([RUN.run_id], 2, 0)
    assert BlobStore(there / "blobs").usage().blobs == 2
    assert as_json("import", tmp_path / "kept")["rows"] == {}
    listed = as_json("run", "list", "--store", there / "record.duckdb")
    assert [(entry["name"], entry["decision"], entry["state"]) for entry in listed] == [
        ("study", "imported", "FINISHED")
    ]
    monkeypatch.chdir(tmp_path)  # where the page goes
    for command in (["run", "show"], ["run", "metrics"], ["run", "logs"], ["report"]):
        shown = run(*command, "study", "--store", there / "record.duckdb")
        assert shown.exit_code == 0, (command, shown.output)
    open_stopped(there / "record.duckdb").close()
