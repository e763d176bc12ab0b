"""An append-only file of records, each on the disk before `append` returns: votes, operations, must-not-lose facts.

A record is a mark, its length, a checksum and its bytes. The checksum covers the record's place in the file too, so
bytes that happen to look like a record are one only where they stand. On opening, a tail that a crash left torn is cut
off. Since each record is durable before the next begins, a crash can only tear the last one: a damaged record with
whole ones after it was damaged by something else, and dropping what follows could forget a vote, so that is an error.
"""

import os
import threading
from array import array
from pathlib import Path

from blake3 import blake3

from protocol.errors import FednodeError
from tracker.durable import disk_errors, sync, sync_directory, write_at

RECORD_BYTES_MAX = 16 * 1024 * 1024  # a thousand times an operation; a longer length in a file is garbage

_MARK = b"\xf5JR\x01"
_LENGTH_BYTES = 4
_CHECKSUM_BYTES = 8  # torn writes are accidents, not attacks
_HEAD_BYTES = len(_MARK) + _LENGTH_BYTES + _CHECKSUM_BYTES


def encode_record(offset: int, record: bytes) -> bytes:
    """`record` as it stands in a journal at `offset`, in bytes from its beginning."""
    if len(record) > RECORD_BYTES_MAX:
        raise FednodeError(
            f"A record of {len(record)} bytes is over the limit of {RECORD_BYTES_MAX}", remedy="keep it in a blob"
        )
    length = len(record).to_bytes(_LENGTH_BYTES, "little")
    return _MARK + length + _checksum(offset, length, record) + record


def scan_records(raw: bytes) -> tuple[list[bytes], int]:
    """The intact records at the beginning of a journal's bytes, and where they end."""
    records: list[bytes] = []
    offset = 0
    while (record := _record_at(raw, offset)) is not None:
        records.append(record)
        offset += _HEAD_BYTES + len(record)
    return records, offset


def damaged_inside(raw: bytes, end: int) -> bool:
    """Whether a whole record lies beyond `end`, where the intact ones at the beginning end."""
    place = raw.find(_MARK, end + 1)
    while place >= 0:
        if _record_at(raw, place) is not None:
            return True
        place = raw.find(_MARK, place + 1)
    return False


def check_inside(raw: bytes, end: int, name: str) -> None:
    """Raise FednodeError where records were lost that no crash can lose."""
    if damaged_inside(raw, end):
        raise FednodeError(
            f"The journal {name} is damaged at byte {end}, with whole records after that",
            remedy="put back a copy of it; without its records this node may contradict what it has signed",
        )


class Journal:
    """One open journal file, made when missing; for any thread. One process at a time may have it open.

    Raises:
        FednodeError: records in its middle are damaged, or the disk says no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._is_unsure = False
        self._starts = array("Q")  # where each record begins, in bytes
        with disk_errors(f"open the journal {path}"):
            is_new = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if is_new:
                    sync_directory(path.parent)
                self._end = self._cut_torn_tail()
            except BaseException:
                os.close(self._descriptor)
                raise

    def append(self, record: bytes) -> None:
        """Add `record`, durably.

        Raises:
            FednodeError: the disk says no; the record is not there, and if the disk then cannot even say what is,
                the journal takes nothing more until it is opened anew.
        """
        with self._lock, disk_errors(f"write the journal {self.path}"):
            if self._is_unsure:
                raise FednodeError(
                    f"The journal {self.path} takes no records since the disk failed", remedy="restart the node"
                )
            encoded = encode_record(self._end, record)
            try:
                write_at(self._descriptor, encoded, self._end)
                self._is_unsure = True
                sync(self._descriptor)
            except OSError:
                # After a failed sync nobody knows what is on the disk ("fsyncgate"); before it, cutting back is safe.
                if not self._is_unsure:
                    os.ftruncate(self._descriptor, self._end)
                raise
            self._is_unsure = False
            self._starts.append(self._end)
            self._end += len(encoded)

    def records(self) -> list[bytes]:
        """All records, in order."""
        with self._lock, disk_errors(f"read the journal {self.path}"):
            records, end = scan_records(_read_all(self._descriptor, self._end))
        if end != self._end:
            raise FednodeError(f"The journal {self.path} was changed from outside", remedy="restart the node")
        return records

    def record(self, index: int) -> bytes | None:
        """The record of that number, from 0; None after the last."""
        with self._lock, disk_errors(f"read the journal {self.path}"):
            if index >= len(self._starts):
                return None
            start = self._starts[index]
            end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
            encoded = os.pread(self._descriptor, end - start, start)
        record = encoded[_HEAD_BYTES:]
        if encoded != encode_record(start, record):
            raise FednodeError(f"The journal {self.path} was changed from outside", remedy="restart the node")
        return record

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _cut_torn_tail(self) -> int:
        size = os.fstat(self._descriptor).st_size
        raw = _read_all(self._descriptor, size)
        records, end = scan_records(raw)
        place = 0
        for record in records:
            self._starts.append(place)
            place += _HEAD_BYTES + len(record)
        if end != size:
            check_inside(raw, end, str(self.path))
            os.ftruncate(self._descriptor, end)
            sync(self._descriptor)
        return end


def _record_at(raw: bytes, offset: int) -> bytes | None:
    head = raw[offset : offset + _HEAD_BYTES]
    if len(head) < _HEAD_BYTES or not head.startswith(_MARK):
        return None
    length_bytes = head[len(_MARK) : len(_MARK) + _LENGTH_BYTES]
    start, length = offset + _HEAD_BYTES, int.from_bytes(length_bytes, "little")
    record = raw[start : start + length]
    if length > RECORD_BYTES_MAX or len(record) < length:
        return None
    return record if head.endswith(_checksum(offset, length_bytes, record)) else None


def _checksum(offset: int, length: bytes, record: bytes) -> bytes:
    digest: bytes = blake3(offset.to_bytes(8, "little") + length + record).digest(_CHECKSUM_BYTES)
    return digest


def _read_all(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while offset < size and (part := os.pread(descriptor, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
