"""An owner's audits, as the local API tells of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from node.run.known_run import KnownRun
from node.run.rounds_audit import RoundsAudit, RoundVerdict

if TYPE_CHECKING:
    from node.node import Node


class Audits:
    """See node.api.service.audit.AuditService. One at a time: each is a round's whole sum."""

    def __init__(self, node: "Node", known: Callable[[str], KnownRun]) -> None:
        self._node = node
        self._known = known
        self._one = trio.Lock()

    async def look(self, run: str, round_number: int | None) -> dict[str, Any]:
        node, known = self._node, self._known(run)
        audit = RoundsAudit(node.identity.node_id, node.disk, node.bulk, node.trainer, node.runs.of_rounds)
        async with self._one:
            verdicts = await audit.look(known, round_number)
        names = {node_id: entry.name for node_id, entry in known.place.state().nodes.items()}
        return {"run_id": known.run_id, "rounds": [_told(verdict, names) for verdict in verdicts]}


def _told(verdict: RoundVerdict, names: dict[Any, str]) -> dict[str, Any]:
    why = verdict.why
    for node, name in names.items():
        why = why.replace(node, name)
    return {
        "round": verdict.round,
        "checkpoint": verdict.checkpoint,
        "aggregator": verdict.aggregator,
        "aggregator_name": names.get(verdict.aggregator, ""),
        "updates_used": verdict.used,
        "updates_refused": verdict.refused,
        "verdict": verdict.verdict,
        "why": why,
    }
