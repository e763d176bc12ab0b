"""What is told of a run's past to a node that was away, and when it believes that. docs/protocol.md §9.

Every checkpoint names the one before it by its hash. So from one that is known to be committed the chain downwards
proves itself, whoever tells it, and needs no certificates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgpack
from pydantic import Field

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash
from protocol.limits import ROSTER_NODES_MAX, SIGNED_NOTE_BYTES_MAX
from protocol.remembered import remembered
from protocol.run.checkpoint import Checkpoint, HexHash, Report, open_checkpoint, open_report
from protocol.run.messages import Note, SignedCheckpoint
from protocol.signing import ENVELOPE_OVERHEAD_BYTES, Envelope
from protocol.wire import Wire, unpack

HISTORY_ENTRIES_MAX = 1024  # of one frame: it is full of bytes long before, but for runs of two nodes
REPORT_ROUNDS_MAX = 8  # a report comes with the next commit, or some rounds later where commits are full of reports
FALSE_REPORTS_MAX = 128  # of one batch: nobody honest tells any, and each costs the look at a signature
_REMEMBERED = 8  # batches: everybody hears the same with a commit, and a few runs may go on at once

Time = Annotated[float, Field(ge=0, le=2.5e11, allow_inf_nan=False)]  # seconds since 1970: years of four digits


class HistoryRequest(Wire):
    """Tell me of the checkpoint with this name, and of all that it builds on, newest first."""

    run: HexHash
    newest: HexHash


class HistoryEntry(Wire):
    """A committed checkpoint and the reports that came with its commit; of a run's last one, also those after it.

    `committed_at` (seconds since 1970) and `seconds`, since the commit before, are for people: when the teller learned
    of it, 0 where it does not know.
    """

    checkpoint: SignedCheckpoint
    reports: Annotated[tuple[Note, ...], Field(max_length=ROSTER_NODES_MAX)]
    committed_at: Time = 0.0
    seconds: Time = 0.0


class HistoryAnswer(Wire):
    """A part of the answer, newest first; the next part goes on where it ends."""

    entries: Annotated[tuple[HistoryEntry, ...], Field(min_length=1, max_length=HISTORY_ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class Past:
    """An entry that is believed, with no reports but those that are."""

    name: Hash
    checkpoint: Checkpoint
    entry: HistoryEntry


def believed(entries: Iterable[HistoryEntry], newest: Hash) -> Iterator[Past]:
    """Each entry as far as it is believed, where `newest` is the name of a committed checkpoint. Raises
    RemoteProtocolError at the first that is not."""
    for entry in entries:
        past = believed_entry(entry, newest)
        yield past
        newest = Hash(past.checkpoint.previous)


def believed_entry(entry: HistoryEntry, name: Hash) -> Past:
    """The entry as far as it is believed, where `name` is that of a committed checkpoint. Raises RemoteProtocolError.

    An entry is believed only if its checkpoint has the name that was asked for, or that the believed one above it gives
    as its previous."""
    signed = open_checkpoint(entry.checkpoint)
    if signed.body_hash != name:
        raise RemoteProtocolError("An entry of a run's history is not the one that the checkpoint above it builds on")
    reports = believed_reports(entry.reports, name, signed.body)
    return Past(name, signed.body, entry.model_copy(update={"reports": reports}))


@remembered(_REMEMBERED)
def believed_reports(reports: tuple[bytes, ...], name: Hash, checkpoint: Checkpoint) -> tuple[bytes, ...]:
    """Those of `reports` that are believed with the commit of `checkpoint`: the first of each node and round, however
    many of them the node has signed. After FALSE_REPORTS_MAX that are false, no more are looked at."""
    nodes = frozenset(checkpoint.roster)
    found: dict[tuple[str, int], bytes] = {}
    false = 0
    for raw in reports:
        subject = subject_of(raw)
        if subject is None or subject in found or subject[0] not in nodes:
            continue
        if not checkpoint.round - REPORT_ROUNDS_MAX <= subject[1] <= checkpoint.round:
            continue
        if _is_believed(raw, name, checkpoint, nodes):
            found[subject] = raw
        elif (false := false + 1) >= FALSE_REPORTS_MAX:
            break
    return tuple(found.values())


def subject_of(raw: bytes) -> tuple[str, int] | None:
    """The node and round that a signed report says it is of, without a look at its signature; None if it is none."""
    try:
        body = unpack(Envelope, raw, SIGNED_NOTE_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES).b
        fields = msgpack.unpackb(body, use_list=False)
        node, round_number = fields["node"], fields["round"]
        return (node, round_number) if isinstance(node, str) and isinstance(round_number, int) else None
    except (RemoteProtocolError, ValueError, KeyError, TypeError, OverflowError, msgpack.exceptions.UnpackException):
        return None


def by_subject(reports: Iterable[bytes]) -> dict[tuple[str, int], bytes]:
    """The first report of each node and round, of those that are believed already."""
    found: dict[tuple[str, int], bytes] = {}
    for raw in reports:
        subject = subject_of(raw)
        if subject is not None:
            found.setdefault(subject, raw)
    return found


def _is_believed(raw: bytes, name: Hash, checkpoint: Checkpoint, nodes: frozenset[str]) -> bool:
    """A report is believed if a node of the checkpoint's roster has signed it, about that checkpoint or one that it
    builds on."""
    try:
        report = open_report(raw).body
    except RemoteProtocolError:
        return False
    return report.run == checkpoint.run and report.node in nodes and _is_about(report, name, checkpoint)


def _is_about(report: Report, name: Hash, checkpoint: Checkpoint) -> bool:
    if report.round == checkpoint.round:
        return report.checkpoint == name
    if report.round == checkpoint.round - 1:
        return report.checkpoint == checkpoint.previous
    return checkpoint.round - REPORT_ROUNDS_MAX <= report.round < checkpoint.round
