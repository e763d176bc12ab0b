"""What a node has been in a run, read back from its journal after a restart. docs/protocol.md §7.3, §8.4, §8.8."""

from collections.abc import Iterable

from protocol.keys import NodeId
from protocol.run.audit import Audit
from protocol.run.checkpoint import open_offer
from protocol.run.election import Election
from protocol.run.journal import (
    ChangeRecord,
    CommittedRecord,
    EvidenceRecord,
    HistoryRecord,
    OfferRecord,
    ReportsRecord,
    StoredRecord,
    TermRecord,
    read_record,
)
from protocol.run.ledger import Ledger
from protocol.run.participation import Participation


def recover(
    records: Iterable[bytes], election: Election, ledger: Ledger, participation: Participation, audit: Audit
) -> bool:
    """Put the parts of a machine where the journal left them. Whether there was anything in it.

    Raises RemoteProtocolError when the journal is not what fednode writes."""
    found = False
    for raw in records:
        record = read_record(raw)
        if isinstance(record, HistoryRecord):
            continue  # for people: who only looks at a run has these too
        found = True
        match record:
            case TermRecord(term=term, voted_for=voted_for):
                election.term = term
                election.voted_for = NodeId(voted_for) if voted_for else None
            case StoredRecord():
                ledger.restore_stored(record)
            case CommittedRecord():
                ledger.restore_committed(record)
            case ReportsRecord(reports=reports):
                ledger.restore_reports(reports)
            case ChangeRecord():
                ledger.restore_change(record)
            case OfferRecord(offer=offer):
                participation.restore_offer(offer, open_offer(offer).body)
            case EvidenceRecord():
                audit.restore(record)
    election.stored = (ledger.stored_term, ledger.stored.checkpoint.round)
    return found
