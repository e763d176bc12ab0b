"""A run's history as it lies in this node's journal: found by the checkpoints' names, read an entry at a time.

A journal of a long run is far larger than what should be in memory, so only where things are is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgpack
import trio

from node.seams import Disk
from protocol.errors import RemoteProtocolError
from protocol.keys import Hash
from protocol.limits import CHECKPOINT_BYTES_MAX, FRAME_BYTES_MAX, ROSTER_NODES_MAX
from protocol.run.history import HistoryEntry, by_subject
from protocol.run.journal import AnyRunRecord, CommittedRecord, HistoryRecord, ReportsRecord, read_record
from protocol.signing import ENVELOPE_OVERHEAD_BYTES, Envelope
from protocol.wire import hash_of, pack, unpack

ENTRY_BYTES_MAX = FRAME_BYTES_MAX - 16 * 1024  # what an entry that fills a frame leaves for the frame's own


@dataclass(slots=True)
class Place:
    """Where in the journal a committed checkpoint, and what belongs to it, is.

    `records`: their numbers, and which entry of a record it is where one holds several. `has_reports`: whether any came
    with its commit. `is_closed`: whether the reports after it, the run's last, were taken in."""

    round: int
    previous: Hash
    records: list[tuple[int, int]] = field(default_factory=list)
    has_reports: bool = False
    is_closed: bool = False


class RunPast:
    """What the journal holds of the run's chain. `refresh` before looking, for it grows."""

    def __init__(self, disk: Disk, journal: str) -> None:
        self.places: dict[Hash, Place] = {}
        self._disk = disk
        self._journal = journal
        self._read = 0  # records that are known
        self._newest: Place | None = None
        self._early: list[tuple[int, int]] = []  # reports that came with the starting checkpoint's commit
        self._last: tuple[int, AnyRunRecord] | None = None  # that was read: the next entry is often in it too
        self._reading = trio.Lock()

    async def refresh(self) -> None:
        """Take in what was written since. Raises FednodeError when the disk says no."""
        async with self._reading:
            while (raw := await self._disk.record(self._journal, self._read)) is not None:
                self._note(self._read, read_record(raw))
                self._read += 1

    async def append(self, entries: Sequence[HistoryEntry]) -> None:
        """Keep what another node has told, durably. It must be believed."""
        await self._disk.append(self._journal, pack(HistoryRecord(entries=tuple(entries))))
        await self.refresh()

    async def close_reports(self) -> None:
        """Remember that the run's last reports are all that are to be had."""
        await self._disk.append(self._journal, pack(ReportsRecord(reports=())))
        await self.refresh()

    async def entry(self, name: Hash) -> HistoryEntry:
        """What is known of the checkpoint `name`, which is in `places`; its times only where another node told them."""
        found: list[HistoryEntry] = []
        for index, position in self.places[name].records:
            found.append(_entry_in(await self._record(index), position))
        checkpoint = next(each.checkpoint for each in found if each.checkpoint)
        reports = tuple(by_subject(report for each in found for report in each.reports).values())
        times = next(((each.committed_at, each.seconds) for each in found if each.committed_at), (0.0, 0.0))
        return HistoryEntry(
            checkpoint=checkpoint,
            reports=_fitting(reports, ENTRY_BYTES_MAX - len(checkpoint)),
            committed_at=times[0],
            seconds=times[1],
        )

    async def _record(self, index: int) -> AnyRunRecord:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        raw = await self._disk.record(self._journal, index)
        assert raw is not None
        self._last = index, read_record(raw)
        return self._last[1]

    def _note(self, index: int, record: AnyRunRecord) -> None:
        match record:
            case CommittedRecord(checkpoint=b""):
                if record.reports:
                    self._early.append((index, 0))
            case CommittedRecord(checkpoint=checkpoint, reports=reports):
                self._note_at(self._early, checkpoint, reports)
                self._note_at([(index, 0)], checkpoint, reports)
                self._early = []
            case HistoryRecord(entries=entries):
                for position, entry in enumerate(entries):
                    self._note_at([(index, position)], entry.checkpoint, entry.reports)
            case ReportsRecord() if self._newest is not None:
                self._newest.records.append((index, 0))
                self._newest.is_closed = True

    def _note_at(self, records: Sequence[tuple[int, int]], checkpoint: bytes, reports: tuple[bytes, ...]) -> None:
        name, round_number, previous = peek(checkpoint)
        place = self.places.setdefault(name, Place(round_number, previous))
        place.records += records
        place.has_reports |= bool(reports)
        if self._newest is None or place.round >= self._newest.round:
            self._newest = place


def peek(raw: bytes) -> tuple[Hash, int, Hash]:
    """Name, round and previous of a signed checkpoint that was checked before: no signature is looked at."""
    body = unpack(Envelope, raw, CHECKPOINT_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES).b
    try:
        fields = msgpack.unpackb(body, use_list=False)
        return hash_of(body), int(fields["round"]), Hash(fields["previous"])
    except (ValueError, KeyError, TypeError, OverflowError, msgpack.exceptions.UnpackException):
        raise RemoteProtocolError("What stands where a checkpoint belongs is none") from None


def _entry_in(record: AnyRunRecord, position: int) -> HistoryEntry:
    """What a record says of a checkpoint; of reports alone, with no checkpoint's bytes."""
    match record:
        case CommittedRecord():
            return HistoryEntry(checkpoint=record.checkpoint, reports=record.reports)
        case HistoryRecord(entries=entries):
            return entries[position]
        case ReportsRecord(reports=reports):
            return HistoryEntry(checkpoint=b"", reports=reports)
    raise AssertionError("places name no other records")


def _fitting(reports: tuple[bytes, ...], room: int) -> tuple[bytes, ...]:
    """As many as fit: of thousands of nodes with long reports some are left out."""
    fitting: list[bytes] = []
    for report in reports[:ROSTER_NODES_MAX]:
        room -= len(report) + 8
        if room < 0:
            break
        fitting.append(report)
    return tuple(fitting)
