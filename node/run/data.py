"""The bytes of one run's rounds: updates collected and checked, rounds combined, what is kept and what given up. What
the run's machine asks for, done with the four seams; each answer is an event for the machine.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from node.network.bulk.arrival import Arrival
from node.network.bulk.bulk import Bulk
from node.run.blobs import RunBlobs, both
from node.run.checking import Checking, why_not_fetched
from node.run.early import OthersEarly
from node.run.fetching import Fetching
from node.run.models import models_in
from node.run.no_room import is_no_room
from node.run.obtaining import Obtaining
from node.run.plan import are_updates_shared
from node.run.spans import Spans
from node.seams import Disk, Trainer
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId, NodeId
from protocol.manifest.manifest import Manifest
from protocol.manifest.words import liars_lack
from protocol.run.checkpoint import (
    SET_ASIDE,
    Checkpoint,
    Offer,
    UpdateEntry,
    checkpoint_blobs,
    open_offer,
    update_blobs,
)
from protocol.run.events import Collect, Collected, Combine, Combined, FetchEarly
from protocol.run.gathering import NO_ROOM
from protocol.run.lateness import counted_samples

if TYPE_CHECKING:
    from aggregation.combine import Outcome
    from aggregation.settings import CombineSettings
    from aggregation.tensors.schema import Schema
    from aggregation.updates import Checked
    from node.run.combine import CombinedRound

log = logging.getLogger("fednode.run")


class RunData:
    """One run's blobs.

    Args:
        moved: told of every blob that came from elsewhere: (source, kind, bytes, round).
    """

    def __init__(
        self,
        manifest: Manifest,
        disk: Disk,
        bulk: Bulk,
        trainer: Trainer,
        moved: Callable[[NodeId, str, int, int], None],
        *,
        blobs: RunBlobs,
        spans: Spans,
    ) -> None:
        self._manifest = manifest
        self._disk = disk
        self.blobs = blobs
        self._trainer = trainer
        self.fetching = Fetching(bulk, spans, moved)
        self.checkpoints = Obtaining(manifest, disk, trainer, blobs, self.fetching)
        self.early = OthersEarly(disk, bulk, self.fetching.kinds)
        self._before: Checkpoint | None = None  # the newest that is committed: the next builds on it
        self._kept: set[str] = set()  # updates of the last round, where others may read them
        self._checked: dict[str, Checked] = {}  # of collected updates, by blob: saves the second reading
        self.models: set[str] = set()  # of the committed rounds, with their schema, and nothing else
        self._updates: set[str] = set()  # collected for the round under way
        self._liars_told = ""  # of the last round that we combined: how its rule bears fewer than it should
        self.norms: dict[str, float] = {}  # of its updates, by blob, where they were computed here; for people

    # --- updates -------------------------------------------------------------------------------------------------
    async def collect(self, wanted: Collect, base: Checkpoint) -> Collected:
        """Fetch an update from its node and check it: length, form, finite values, norm."""
        offer = wanted.offer
        try:
            schema = await self.checkpoints.schema(base)
            checking = Checking(self.settings(), schema, self._trainer)
            return await self._fetch_update(wanted, schema, checking) or await self._check(wanted, base, checking)
        except FednodeError as error:
            if isinstance(error, Refused) and error.code == "blob-too-large":
                # By the name that a node gives it which has the blob already: an auditor must judge alike.
                return Collected(wanted.name, "update-length", error.what)
            if is_no_room(error):
                return Collected(wanted.name, NO_ROOM, error.what)
            log.info("the update of %s for round %d could not be had yet: %s", offer.node, offer.round, error.what)
            return Collected(wanted.name, "unreachable", error.what)

    async def fetch_early(self, wanted: FetchEarly) -> None:
        """Have here what there is of an update that is still coded (§8.29). Raises nothing: the offer comes anyway."""
        with suppress(FednodeError):
            await self.early.fetch(wanted, self.settings().update_bytes(await self.checkpoints.schema(wanted.base)))

    async def _fetch_update(self, wanted: Collect, schema: "Schema", checking: Checking) -> Collected | None:
        """Have the update here, or say why it is refused. What has not the length that it must have is not fetched; the
        rest is checked as it comes."""
        offer = wanted.offer
        size = self.settings().update_bytes(schema)
        if refusal := why_not_fetched(offer, self._manifest.aggregation.codec, size):
            return Collected(wanted.name, *refusal)
        async with checking.arrival.following():
            await self.fetch_update(offer, [NodeId(offer.node)], size, checking.arrival)
        return None

    async def fetch_update(
        self, offer: Offer, sources: Sequence[NodeId], size: int, arrival: Arrival | None = None
    ) -> None:
        """Have an update here while its round lasts, and the next one where others may read it."""
        blob = BlobId(offer.update)
        is_here = await self.blobs.claim(blob, offer.round)
        await self.early.offered(offer, is_here=is_here)
        if not is_here:
            await self.fetching.fetch(blob, sources, size, "update", offer.round, arrival)
        self._updates.add(offer.update)

    async def _check(self, wanted: Collect, base: Checkpoint, checking: Checking) -> Collected:
        from aggregation.tensors.sources import as_source
        from aggregation.updates import Refusal, read_counters, update_of

        offer, settings = wanted.offer, self.settings()
        schema = await self.checkpoints.schema(base)
        base_model = as_source(await self.blobs.of_checkpoint(base, base.model))
        samples = counted_samples(offer, base.round + 1)
        update = update_of(offer.node, await self._disk.blob_data(BlobId(offer.update)), samples)

        def work() -> "Checked | Refusal":
            bounds = settings.bounds(read_counters(schema, base_model, schema.counters_offset))
            return checking.judge(bounds, update)

        found = await self._trainer.offload(work)
        if isinstance(found, Refusal):
            return Collected(wanted.name, found.code, found.sentence)
        self._checked[offer.update] = found
        return Collected(wanted.name)

    async def combine(self, wanted: Combine) -> Combined:
        """Combine the collected updates with the base, and store what comes of it."""
        from aggregation.updates import update_of
        from node.run.combine import combine_round

        offers = {offer.node: (raw, offer) for raw in wanted.offers for offer in (open_offer(raw).body,)}
        try:
            schema = await self.checkpoints.schema(wanted.base)
            state = wanted.base.server_state
            updates = [
                update_of(
                    offer.node,
                    await self.blobs.data(BlobId(offer.update), f"the update of {offer.node}", [NodeId(offer.node)]),
                    counted_samples(offer, wanted.round),
                    self._checked.get(offer.update),
                    offer.steps,
                )
                for _, offer in offers.values()
            ]
            base = await self.blobs.of_checkpoint(wanted.base, wanted.base.model)
            server = await self.blobs.of_checkpoint(wanted.base, state) if state else b""
            settings, nodes = self.settings(), len(wanted.base.roster)
            work = partial(combine_round, base, schema, updates, settings, server, self._disk.scratch(), nodes)
            with await self._trainer.offload(work) as result:
                model, difference, server_state = await self._store(result, wanted.round)
                self.checkpoints.models_seen |= {model, wanted.base.tensor_schema}
        except FednodeError as error:
            return Combined(wanted.round, wanted.term, failed=error.what)
        self._checked.clear()
        outcome = result.outcome
        self.learn_norms(outcome, {node: offer.update for node, (_, offer) in offers.items()})
        seen = len(outcome.used) + sum(1 for refusal in outcome.refused if refusal.code == SET_ASIDE)
        self._tell_liars(wanted.round, liars_lack(self._manifest.aggregation, seen))
        used = [UpdateEntry(offer=offers[u.name][0], weight=u.weight, refused="", reason="") for u in outcome.used]
        refused = [
            UpdateEntry(offer=offers[r.name][0], weight=0, refused=r.code, reason=r.sentence[:500])
            for r in outcome.refused
        ]
        return Combined(
            wanted.round,
            wanted.term,
            model=model,
            difference=difference,
            server_state=server_state,
            entries=(*used, *refused, *wanted.refused),
            exponents=outcome.exponents,
            parameters=schema.averaged_elements,
        )

    def _tell_liars(self, round_number: int, lack: str) -> None:
        """Say once, in the run's log, that rounds bear fewer liars than their rule is there for."""
        if lack and lack != self._liars_told:
            self.blobs.warn(f"round {round_number}: {lack}")
        self._liars_told = lack

    async def _store(self, result: "CombinedRound", round_number: int) -> tuple[BlobId, BlobId, str]:
        """What came of a round, as blobs. Large ones are files: the model is read through while the others are."""
        model = partial(self.blobs.put, result.model)
        difference = partial(self.blobs.put_for_a_round, result.difference, round_number)
        if not result.has_server_state:
            return *await both(model, difference), ""
        made, difference_blob = await both(model, difference)
        return made, difference_blob, await self.blobs.put_for_a_round(result.server_state, round_number)

    def learn_norms(self, outcome: "Outcome", blobs: Mapping[str, str]) -> None:
        """Remember the norms of the used updates until the round is committed. `blobs`: each node's update."""
        self.norms |= {blobs[used.name]: used.norm for used in outcome.used if used.norm is not None}

    def settings(self) -> "CombineSettings":
        from node.run.combine_settings import settings_of

        return settings_of(self._manifest)

    def in_use(self, *, has_ended: bool) -> set[str]:
        """What is being made durable just now and, while rounds are made, what the one under way is made with, and the
        updates that may still be asked for."""
        obtaining = self.checkpoints.under_way()
        return obtaining if has_ended else obtaining | set(self.blobs.claimed) | self._updates | self._kept

    def has_of_checkpoint(self, blob: BlobId) -> bool:
        """Whether `blob` is of a committed model, or is or was fetched for a checkpoint; not what one is said to be."""
        return blob in self.models or self.fetching.is_for_a_checkpoint(blob)

    def holds(self, blob: BlobId) -> bool:
        """Whether this run works with `blob`, or keeps it."""
        return blob in self.blobs.claimed or blob in self.checkpoints.models_seen or self.has_update(blob)

    def has_update(self, blob: BlobId) -> bool:
        """Whether `blob` is an update that we have seen as aggregator or auditor, of this round or of the last."""
        return blob in self._updates or blob in self._kept

    async def learn_models(self, journal: str) -> None:
        """The models of the rounds before a restart."""
        self.models |= models_in(await self._disk.records(journal)).all()

    async def forget_before(self, checkpoint: Checkpoint, ours: Offer | None) -> None:
        """A checkpoint is committed: give up what only led to it. Models stay, for who wants them. What no checkpoint
        lists of the round's updates may still be used late (§8.20), and stays until the next commit.

        `ours` is the newest offer of this node."""
        self.checkpoints.models_seen |= {checkpoint.model, checkpoint.tensor_schema}
        self.models |= {checkpoint.model, checkpoint.tensor_schema}
        listed, offered = update_blobs(checkpoint), set(self._updates)
        if ours is not None and ours.round == checkpoint.round:
            offered.add(ours.update)
        needed = (offered - listed) | set(checkpoint_blobs(checkpoint))
        self._updates.clear()
        self.norms.clear()
        if are_updates_shared(self._manifest):  # who is accused for a round may have to be judged in the next
            self._kept = set(listed & self.blobs.claimed.keys())
            needed |= self._kept
            if self._before is not None:
                needed |= set(checkpoint_blobs(self._before))
        self._before = checkpoint
        await self.blobs.give_up(until=checkpoint.round, but=needed)
