"""What a node must never forget of a run, as records of its journal. docs/protocol.md §7.3, §8.4."""

from typing import Annotated, Literal

from pydantic import Field

from protocol.limits import CHECKPOINT_BYTES_MAX, FRAME_BYTES_MAX, ROSTER_NODES_MAX
from protocol.run.checkpoint import NodeName, Reason, Term
from protocol.run.history import HISTORY_ENTRIES_MAX, HistoryEntry
from protocol.run.messages import Note, SignedCheckpoint
from protocol.wire import Wire, unpack


class TermRecord(Wire):
    """I have seen this term, and voted in it for this node, or not yet."""

    kind: Literal["term"] = "term"
    term: Term
    voted_for: NodeName | None


class StoredRecord(Wire):
    """This checkpoint is durable here, under this issue: I may acknowledge it, and must remember it when I vote."""

    kind: Literal["stored"] = "stored"
    issue: Note
    checkpoint: SignedCheckpoint


class CommittedRecord(Wire):
    """This checkpoint is committed, as the certificate proves, and durable here. `reports` came with the commit: with
    them the journal holds the run's history (§9.1)."""

    kind: Literal["committed"] = "committed"
    checkpoint: SignedCheckpoint
    acks: Annotated[tuple[Note, ...], Field(max_length=31)]
    reports: Annotated[tuple[Note, ...], Field(max_length=ROSTER_NODES_MAX)] = ()


class ReportsRecord(Wire):
    """Reports that came after the commit before it, the run's last."""

    kind: Literal["reports"] = "reports"
    reports: Annotated[tuple[Note, ...], Field(max_length=ROSTER_NODES_MAX)]


class HistoryRecord(Wire):
    """Commits that this node has missed, as another one told of them; newest first."""

    kind: Literal["history"] = "history"
    entries: Annotated[tuple[HistoryEntry, ...], Field(max_length=HISTORY_ENTRIES_MAX)]


class ChangeRecord(Wire):
    """A committed checkpoint that changed the voters, kept for those who have missed it (§8.13)."""

    kind: Literal["change"] = "change"
    checkpoint: SignedCheckpoint
    acks: Annotated[tuple[Note, ...], Field(max_length=31)]


class OfferRecord(Wire):
    """This is my update of its round: there must never be a second."""

    kind: Literal["offer"] = "offer"
    offer: Note


class EvidenceRecord(Wire):
    """Two statements that `node` signed and that cannot both be honest, or one and what proves it wrong (§8.12)."""

    kind: Literal["evidence"] = "evidence"
    node: NodeName
    what: Reason
    deposes: bool
    first: SignedCheckpoint
    second: SignedCheckpoint


AnyRunRecord = (
    TermRecord
    | StoredRecord
    | CommittedRecord
    | ReportsRecord
    | HistoryRecord
    | ChangeRecord
    | OfferRecord
    | EvidenceRecord
)
RunRecord = Annotated[AnyRunRecord, Field(discriminator="kind")]
_RECORD_BYTES_MAX = 2 * CHECKPOINT_BYTES_MAX + FRAME_BYTES_MAX


def read_record(raw: bytes) -> AnyRunRecord:
    """Raises RemoteProtocolError for what no fednode of this version wrote."""
    record: AnyRunRecord = unpack(RunRecord, raw, _RECORD_BYTES_MAX)  # type: ignore[arg-type]
    return record
