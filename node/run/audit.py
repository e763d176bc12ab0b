"""Recomputing another's checkpoint from the updates that it lists: the sum is exact, so every bit must agree.

docs/protocol.md §8.18. What an update's offer alone decides is judged by the run's machine; this looks at the bytes.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.run.checking import why_not_fetched
from node.run.data import RunData
from node.seams import Disk, Trainer
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from protocol.run.checkpoint import COMPARED, Checkpoint, open_offer
from protocol.run.events import Recompute
from protocol.run.gathering import OFFER_REFUSALS
from protocol.run.lateness import counted_samples
from tracker.blobs.chunks import blob_id_of_data

if TYPE_CHECKING:
    from aggregation.tensors.schema import Schema
    from aggregation.updates import Update
    from node.run.combine import CombinedRound

log = logging.getLogger("fednode.run")


class RunAudit:
    """One run's checkpoints, made anew."""

    def __init__(self, data: RunData, disk: Disk, trainer: Trainer) -> None:
        self._data = data
        self._disk = disk
        self._trainer = trainer

    async def recompute(self, wanted: Recompute) -> str | None:
        """Empty when the checkpoint is what its updates give, else how it differs; None when that cannot be said yet,
        because an update that it compares, or what it builds on, is not to be had."""
        try:
            return await self.judge(wanted)
        except FednodeError as error:
            log.info("checkpoint %d cannot be recomputed yet: %s", wanted.checkpoint.round, error.what)
            return None

    async def judge(self, wanted: Recompute) -> str:
        """Empty when the checkpoint is what its updates give, else how it differs. Raises FednodeError, which names
        what is not to be had, where that cannot be said."""
        from node.run.combine import combine_round  # numpy, only in nodes that have runs

        checkpoint, previous = wanted.checkpoint, wanted.previous
        schema = await self._data.checkpoints.schema(checkpoint)
        updates = await self._updates(wanted, schema)
        if isinstance(updates, str):
            return updates
        base = await self._data.blobs.of_checkpoint(previous, previous.model)
        state = await self._data.blobs.of_checkpoint(previous, previous.server_state) if previous.server_state else b""
        settings, nodes = self._data.settings(), len(previous.roster)
        work = partial(combine_round, base, schema, updates, settings, state, self._disk.scratch(), nodes)
        with await self._trainer.offload(work) as result:
            offers = [open_offer(entry.offer).body for entry in checkpoint.updates]
            self._data.learn_norms(result.outcome, {offer.node: offer.update for offer in offers})
            judged = {update.name for update in updates}
            verdict: str = await self._trainer.offload(partial(_difference, checkpoint, schema, result, judged))
        return verdict

    async def _updates(self, wanted: Recompute, schema: "Schema") -> "list[Update] | str":
        """The updates that the aggregator had to look at, as it had them; or what is wrong with its list of them."""
        from aggregation.updates import update_of

        settings = self._data.settings()
        size = settings.update_bytes(schema)
        updates: list[Update] = []
        for entry in wanted.checkpoint.updates:
            offer = open_offer(entry.offer).body
            if entry.refused in OFFER_REFUSALS:
                continue
            if refusal := why_not_fetched(offer, settings.update_codec, size):
                if entry.refused == refusal[0]:
                    continue
                said = _judgement(entry.weight, entry.refused)
                return f"the update of {offer.node} is {said}, not refused as {refusal[0]}: {refusal[1]}"
            try:
                await self._data.fetch_update(offer, [NodeId(offer.node), *wanted.sources], size)
            except FednodeError as error:
                if entry.refused and entry.refused not in COMPARED:
                    continue  # what nobody can be shown proves nothing, and changes nothing
                what = f"the update of {offer.node} is not to be had: {error.what}"
                raise FednodeError(what, remedy=error.remedy) from error
            samples = counted_samples(offer, wanted.checkpoint.round)
            data = await self._disk.blob_data(BlobId(offer.update))
            updates.append(update_of(offer.node, data, samples, steps=offer.steps))
        return updates


def _difference(checkpoint: Checkpoint, schema: "Schema", result: "CombinedRound", judged: set[str]) -> str:
    """How a checkpoint differs from what was recomputed; empty where it does not."""
    outcome = result.outcome
    found = {update.name: (update.weight, "") for update in outcome.used}
    found |= {refusal.name: (0, refusal.code) for refusal in outcome.refused}
    for entry in checkpoint.updates:
        node = open_offer(entry.offer).body.node
        if node in judged and found[node] != (entry.weight, entry.refused):
            return f"the update of {node} is {_judgement(entry.weight, entry.refused)}, not {_judgement(*found[node])}"
    if checkpoint.exponents != outcome.exponents:
        return "the exponents of its sum are others"
    if [(part.start, part.stop) for part in checkpoint.parts] != [(0, schema.averaged_elements)]:
        return "its parts are not the whole model"
    claimed = (checkpoint.model, checkpoint.difference, checkpoint.server_state)
    state = blob_id_of_data(result.server_state) if result.has_server_state else ""
    made = (blob_id_of_data(result.model), blob_id_of_data(result.difference), state)
    for name, said, right in zip(("model", "difference", "server state"), claimed, made, strict=True):
        if said != right:
            return f"its {name} is another"
    return ""


def _judgement(weight: int, refused: str) -> str:
    return f"refused as {refused}" if refused else f"used with weight {weight}"
