"""A committed round as a row of the record, with what became of each update: used, used late, or refused and why."""

import json
from collections.abc import Mapping
from typing import Any

from protocol.keys import RunId
from protocol.run.checkpoint import Checkpoint, UpdateEntry, open_offer
from protocol.run.events import Committed
from protocol.run.lateness import is_late
from protocol.run.voters import auditors_of
from tracker.tables.rows import RoundRow


def round_row(
    event: Committed, moved: int, seconds: float, at: float, *, audit: str, norms: Mapping[str, float]
) -> RoundRow:
    """The row of a commit that this node heard of `at` a time, `seconds` after the one before; `moved` bytes were
    counted for it here. `audit`: the run's, as its manifest has it. `norms`: of updates, by blob, as far as they are
    known here."""
    checkpoint = event.checkpoint
    refused = [
        {"node_id": open_offer(entry.offer).body.node, "reason": f"{entry.refused}: {entry.reason}"}
        for entry in checkpoint.updates
        if entry.refused
    ]
    return RoundRow(
        checkpoint.run,
        checkpoint.round,
        checkpoint.made_in_term,  # whoever issues it again under a later one has not made it
        checkpoint.maker,
        event.name,
        checkpoint.model,
        at,
        len(checkpoint.updates) - len(refused),
        json.dumps(refused),
        moved,
        seconds,
        json.dumps([_told(entry, checkpoint, norms) for entry in checkpoint.updates], separators=(",", ":")),
        _auditors(checkpoint, audit),
    )


def _told(entry: UpdateEntry, checkpoint: Checkpoint, norms: Mapping[str, float]) -> dict[str, Any]:
    offer = open_offer(entry.offer).body
    told: dict[str, Any] = {"node_id": offer.node, "samples": offer.samples, "bytes": offer.update_bytes}
    told["weight"] = entry.weight
    if offer.update in norms:
        told["norm"] = norms[offer.update]
    if entry.refused:
        told["refused"] = entry.refused
    elif is_late(offer, checkpoint.round):
        told["late"] = True
    return told


def _auditors(checkpoint: Checkpoint, audit: str) -> int:
    others = [voter for voter in checkpoint.voters if voter != checkpoint.maker]
    return len(auditors_of(RunId(checkpoint.run), checkpoint.round, others, audit))
