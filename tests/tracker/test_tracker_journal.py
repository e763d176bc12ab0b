"""The journal: cut anywhere, it gives a prefix of what was written; damaged inside, it says so."""

import errno
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import FednodeError
from tracker import journal as journal_module
from tracker.journal import Journal, encode_record, scan_records


def bytes_of(records: list[bytes]) -> bytes:
    raw = b""
    for record in records:
        raw += encode_record(len(raw), record)
    return raw


def reopened(path: Path, raw: bytes) -> list[bytes]:
    path.write_bytes(raw)
    journal = Journal(path)
    records = journal.records()
    journal.close()
    return records


def test_cut_at_every_byte_it_gives_the_whole_records_before_the_cut(tmp_path: Path) -> None:
    records = [b"", b"vote 1", b"\xf5JR\x01" + bytes(20), b"x" * 40]
    raw = bytes_of(records)
    ends = [len(bytes_of(records[:count])) for count in range(len(records) + 1)]
    path = tmp_path / "journal"
    for cut in range(len(raw) + 1):
        whole = sum(end <= cut for end in ends) - 1
        assert reopened(path, raw[:cut]) == records[:whole]
        assert path.stat().st_size == ends[whole]


def test_damaged_at_every_byte_it_never_gives_what_was_not_written(tmp_path: Path) -> None:
    records = [b"vote 1", b"vote 2", b"vote 3"]
    raw = bytes_of(records)
    last = len(bytes_of(records[:2]))
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 0x40
        if place >= last:
            assert reopened(tmp_path / "journal", bytes(damaged)) == records[:2]
        else:
            with pytest.raises(FednodeError, match="damaged at byte"):
                reopened(tmp_path / "journal", bytes(damaged))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_any_journal_cut_anywhere_and_written_on(records: list[bytes], data: st.DataObject) -> None:
    raw = bytes_of(records)
    cut = data.draw(st.integers(0, len(raw)))
    garbage = data.draw(st.binary(max_size=40))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        whole, _ = scan_records(raw[:cut])
        kept = reopened(path, raw[:cut] + garbage)  # the garbage may happen to be what was cut off
        assert kept == records[: len(kept)]
        assert len(kept) >= len(whole)
        journal = Journal(path)
        journal.append(b"later")
        journal.close()
        journal = Journal(path)
        assert journal.records() == [*kept, b"later"]
        journal.close()


def test_a_record_inside_a_record_is_not_taken_for_one(tmp_path: Path) -> None:
    inner = bytes_of([b"forged vote"])
    raw = bytes_of([b"first", inner + b"and more"])
    assert reopened(tmp_path / "journal", raw[:-4]) == [b"first"]


def test_a_tail_of_zeros_is_a_torn_one(tmp_path: Path) -> None:
    assert reopened(tmp_path / "journal", bytes_of([b"first"]) + bytes(4096)) == [b"first"]


def test_random_bytes_are_no_journal(tmp_path: Path) -> None:
    assert reopened(tmp_path / "journal", random.Random(1).randbytes(100_000)) == []


def test_append_is_on_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    synced: list[list[bytes]] = []
    monkeypatch.setattr(journal_module, "sync", lambda descriptor: synced.append(scan_records(path.read_bytes())[0]))
    journal.append(b"vote 1")
    journal.append(b"vote 2")
    assert synced == [[b"vote 1"], [b"vote 1", b"vote 2"]]
    journal.close()


def test_a_full_disk_costs_one_record_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(b"vote 1")
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset > len(bytes_of([b"vote 1"])):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:5], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(FednodeError, match="No space left"):
            journal.append(b"a vote that finds no room")
    journal.append(b"vote 2")
    assert journal.records() == [b"vote 1", b"vote 2"]
    journal.close()
    assert reopened(path, path.read_bytes()) == [b"vote 1", b"vote 2"]


def test_after_a_failed_sync_nothing_is_taken_until_it_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "sync", failing)
        with pytest.raises(FednodeError, match="Input/output"):
            journal.append(b"vote 1")
    with pytest.raises(FednodeError, match="restart"):
        journal.append(b"vote 2")
    journal.close()
    assert Journal(path).records() == [b"vote 1"]
