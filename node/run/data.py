"""The bytes of one run: checkpoints obtained, updates collected and checked, rounds combined. What the run's machine
asks for, done with the four seams; each answer is an event for the machine.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from node.network.bulk import Bulk
from node.network.bulk_arrival import Arrival
from node.run.blobs import RunBlobs, both
from node.run.checking import Checking, why_not_fetched
from node.run.early import OthersEarly
from node.run.models import models_in
from node.run.no_room import LacksRoom, is_no_room
from node.run.plan import are_updates_shared
from node.run.spans import Spans
from node.seams import Disk, Trainer
from protocol.checkpoint import SET_ASIDE, Checkpoint, Offer, UpdateEntry, checkpoint_blobs, open_offer, update_blobs
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.gathering import NO_ROOM
from protocol.keys import BlobId, NodeId
from protocol.lateness import counted_samples
from protocol.manifest import Manifest
from protocol.manifest_words import liars_lack
from protocol.run_events import Collect, Collected, Combine, Combined, FetchEarly, Obtain

if TYPE_CHECKING:
    from aggregation.combine import Outcome
    from aggregation.settings import CombineSettings
    from aggregation.tensors.schema import Schema
    from aggregation.updates import Checked
    from node.run.combine import CombinedRound

log = logging.getLogger("fednode.run")

SCHEMA_BYTES_MAX = 1024 * 1024  # aggregation.tensors.schema's own bound on what it parses


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
        self._bulk = bulk
        self.blobs = blobs
        self._spans = spans
        self._trainer = trainer
        self._moved = moved
        self._schema: tuple[str, Schema] | None = None
        self._before: Checkpoint | None = None  # the newest that is committed: the next builds on it
        self._kept: set[str] = set()  # updates of the last round, where others may read them
        self._checked: dict[str, Checked] = {}  # of collected updates, by blob: saves the second reading
        self._sound: set[str] = set()  # checkpoints, by name, whose models are what they should be
        self._making = trio.Lock()  # a checkpoint that is proposed and committed meanwhile is made once
        self._lies: set[str] = set()  # and those whose blobs prove that their makers lied
        self._models: set[str] = set()  # models and schemas of checkpoints, which stay whatever else is called so
        self.models: set[str] = set()  # of the committed rounds, with their schema, and nothing else
        self._updates: set[str] = set()  # collected for the round under way
        self._liars_told = ""  # of the last round that we combined: how its rule bears fewer than it should
        self.norms: dict[str, float] = {}  # of its updates, by blob, where they were computed here; for people
        self.fetching: dict[BlobId, str] = {}  # what each blob is that is on its way here
        self.early = OthersEarly(disk, bulk, self.fetching)
        self._not_obtained = (-1, "")  # the round and why: said once
        self._obtaining: Counter[str] = Counter()  # blobs of checkpoints that are being made durable just now
        self._came: deque[BlobId] = deque(maxlen=8)  # for checkpoints, four blobs each, until the ledger has them

    # --- checkpoints ---------------------------------------------------------------------------------------------
    async def obtain(self, wanted: Obtain, lacks_room: LacksRoom) -> bool:
        """Make every blob of a checkpoint durable here. False, with a line in the log, when that was not possible."""
        checkpoint = wanted.checkpoint
        if wanted.name in self._lies:
            return False  # it is proposed again with every heartbeat
        held = checkpoint_blobs(checkpoint)
        self._obtaining.update(held)
        try:
            self._models |= {checkpoint.model, checkpoint.tensor_schema}
            await self._fetch(BlobId(checkpoint.tensor_schema), wanted.sources, SCHEMA_BYTES_MAX, checkpoint.round)
            schema = await self.schema(checkpoint)
            await self._obtain_model(wanted, schema)
            if checkpoint.server_state:
                await self._obtain_state(wanted, schema)
        except RemoteProtocolError as error:
            log.warning("checkpoint %d by %s is not taken: %s", checkpoint.round, checkpoint.maker, error.what)
            self._lies.add(wanted.name)
            return False
        except FednodeError as error:
            if is_no_room(error):
                await lacks_room("cannot be stored here", checkpoint.round, error)
            elif self._not_obtained != (told := (checkpoint.round, error.what)):  # it is tried every second
                self._not_obtained = told
                log.info("checkpoint %d could not be obtained yet: %s", *told)
            return False
        finally:
            self._obtaining.subtract(held)
        return True

    async def _obtain_model(self, wanted: Obtain, schema: "Schema") -> None:
        """The model: made from the checkpoint before where that is here, else fetched whole and looked at.

        Raises RemoteProtocolError when whoever made the checkpoint has lied about it."""
        from aggregation.checkpoints import check_model  # numpy, only in nodes that have runs

        checkpoint, previous, model = wanted.checkpoint, wanted.previous, BlobId(wanted.checkpoint.model)
        if wanted.name in self._sound and await self._disk.has_blob(model):
            return
        if previous is not None and await self._disk.has_blob(BlobId(previous.model)):
            await self._fetch_difference(previous, wanted, schema)
            async with self._making:
                if wanted.name not in self._sound or not await self._disk.has_blob(model):
                    await self._make_from(previous, checkpoint, schema)
                    self._sound.add(wanted.name)
            return
        await self._fetch(model, wanted.sources, schema.model_bytes, checkpoint.round)
        data = await self._disk.blob_data(model)
        try:
            await self._trainer.offload(partial(check_model, schema, data))
        except FednodeError as error:
            raise RemoteProtocolError(error.what) from error
        self._sound.add(wanted.name)

    async def _obtain_state(self, wanted: Obtain, schema: "Schema") -> None:
        """The server optimizer's state, of the length that it must have, and finite. Raises RemoteProtocolError."""
        from aggregation.server_state import check_server_state, state_bytes

        state, settings = BlobId(wanted.checkpoint.server_state), self.settings()
        size = state_bytes(schema, settings)
        await self._fetch(state, wanted.sources, size, wanted.checkpoint.round, passing=True)
        data = await self._disk.blob_data(state)
        try:
            await self._trainer.offload(partial(check_server_state, schema, settings, data))
        except FednodeError as error:
            raise RemoteProtocolError(error.what) from error

    async def _fetch_difference(self, previous: Checkpoint, wanted: Obtain, schema: "Schema") -> None:
        """What makes a checkpoint's model of the one before. Raises RemoteProtocolError where there must be one."""
        from aggregation.codecs.registry import difference_bytes

        checkpoint = wanted.checkpoint
        if checkpoint.difference:
            size = difference_bytes(schema, self.settings().checkpoint_coding)
            await self._fetch(BlobId(checkpoint.difference), wanted.sources, size, checkpoint.round, passing=True)
        elif checkpoint.model != previous.model:
            raise RemoteProtocolError("It has another model than the one before, and no difference")

    async def _make_from(self, previous: Checkpoint, checkpoint: Checkpoint, schema: "Schema") -> None:
        """The model as its base plus the coded difference, which is half the bytes and proves it. Raises
        RemoteProtocolError when it gives another: everybody computes the same bits."""
        from node.run.combine import apply_where_it_belongs

        if not checkpoint.difference:
            return
        work = partial(
            apply_where_it_belongs,
            await self.blobs.of_checkpoint(previous, previous.model),
            schema,
            await self._disk.blob_data(BlobId(checkpoint.difference)),
            self._manifest.aggregation.codec_of_checkpoints,
            self._disk.scratch(),
        )
        if not await self.blobs.put_as(BlobId(checkpoint.model), await self._trainer.offload(work)):
            await self._disk.read_blob(BlobId(previous.model))  # raises when it is our copy that is wrong
            raise RemoteProtocolError("Its difference, added to the model before, does not make its model")

    async def schema(self, checkpoint: Checkpoint) -> "Schema":
        """A run has one schema, read once. Raises RemoteProtocolError when what is called its schema is none."""
        from aggregation.tensors.schema import Schema

        if self._schema is None or self._schema[0] != checkpoint.tensor_schema:
            await self.blobs.of_checkpoint(checkpoint, checkpoint.tensor_schema)
            raw = await self._disk.read_blob(BlobId(checkpoint.tensor_schema))
            self._schema = checkpoint.tensor_schema, Schema.from_bytes(raw)
        return self._schema[1]

    async def _fetch(
        self, blob: BlobId, sources: Iterable[NodeId], bytes_max: int, round_number: int, *, passing: bool = False
    ) -> None:
        is_here = await (self.blobs.claim(blob, round_number) if passing else self._disk.has_blob(blob))
        if not is_here:
            await self._fetch_from(blob, list(sources), bytes_max, "checkpoint", round_number)

    async def _fetch_from(
        self,
        blob: BlobId,
        sources: Sequence[NodeId],
        bytes_max: int,
        kind: str,
        round_number: int,
        arrival: Arrival | None = None,
    ) -> None:
        self.fetching[blob] = kind
        try:
            with self._spans.measuring("fetch", round_number) as measured:
                measured.peer, measured.bytes = source, size = await self._bulk.fetch(blob, sources, bytes_max, arrival)
        finally:
            self.fetching.pop(blob, None)
        if kind == "checkpoint":
            self._came.append(blob)
        self._moved(source, kind, size, round_number)

    # --- updates -------------------------------------------------------------------------------------------------
    async def collect(self, wanted: Collect, base: Checkpoint) -> Collected:
        """Fetch an update from its node and check it: length, form, finite values, norm."""
        offer = wanted.offer
        try:
            schema = await self.schema(base)
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
            await self.early.fetch(wanted, self.settings().update_bytes(await self.schema(wanted.base)))

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
            await self._fetch_from(blob, list(dict.fromkeys(sources)), size, "update", offer.round, arrival)
        self._updates.add(offer.update)

    async def _check(self, wanted: Collect, base: Checkpoint, checking: Checking) -> Collected:
        from aggregation.tensors.sources import as_source
        from aggregation.updates import Refusal, read_counters, update_of

        offer, settings = wanted.offer, self.settings()
        schema = await self.schema(base)
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
            schema = await self.schema(wanted.base)
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
                self._models |= {model, wanted.base.tensor_schema}
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
        obtaining = {blob for blob, count in self._obtaining.items() if count}
        return obtaining if has_ended else obtaining | set(self.blobs.claimed) | self._updates | self._kept

    def has_of_checkpoint(self, blob: BlobId) -> bool:
        """Whether `blob` is of a committed model, or is or was fetched for a checkpoint; not what one is said to be."""
        return blob in self.models or blob in self._came or self.fetching.get(blob) == "checkpoint"

    def holds(self, blob: BlobId) -> bool:
        """Whether this run works with `blob`, or keeps it."""
        return blob in self.blobs.claimed or blob in self._models or self.has_update(blob)

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
        self._models |= {checkpoint.model, checkpoint.tensor_schema}
        self.models |= {checkpoint.model, checkpoint.tensor_schema}
        listed, offered = update_blobs(checkpoint), set(self._updates)
        if ours is not None and ours.round == checkpoint.round:
            offered.add(ours.update)
        needed = (offered - listed) | set(checkpoint_blobs(checkpoint))
        self._updates.clear()
        self.norms.clear()
        await self.early.drop()
        if are_updates_shared(self._manifest):  # who is accused for a round may have to be judged in the next
            self._kept = set(listed & self.blobs.claimed.keys())
            needed |= self._kept
            if self._before is not None:
                needed |= set(checkpoint_blobs(self._before))
        self._before = checkpoint
        await self.blobs.give_up(until=checkpoint.round, but=needed)
