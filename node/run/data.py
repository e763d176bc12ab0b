"""The bytes of one run: checkpoints obtained, updates collected and checked, rounds combined. What the run's machine
asks for, done with the four seams; each answer is an event for the machine.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from node.network.bulk import Bulk
from node.run.blobs import RunBlobs, both
from node.run.plan import are_updates_shared
from node.run.spans import Spans
from node.seams import Disk, Trainer
from protocol.checkpoint import Checkpoint, Offer, UpdateEntry, checkpoint_blobs, open_offer, update_blobs
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.lateness import counted_samples
from protocol.manifest import Manifest
from protocol.run_events import Collect, Collected, Combine, Combined, Obtain

if TYPE_CHECKING:
    from aggregation.combine import Outcome
    from aggregation.schema import Schema
    from aggregation.settings import CombineSettings
    from aggregation.updates import Checked
    from node.run.combine import CombinedRound

log = logging.getLogger("fednode.run")

SCHEMA_BYTES_MAX = 1024 * 1024  # aggregation.schema's own bound on what it parses


class RunData:
    """One run's blobs.

    Args:
        moved: told of every blob that came from elsewhere: (source, kind, bytes, round).
        needed_elsewhere: whether another run of this node works with a blob; two runs alike have the same.
    """

    def __init__(
        self,
        manifest: Manifest,
        disk: Disk,
        bulk: Bulk,
        trainer: Trainer,
        moved: Callable[[NodeId, str, int, int], None],
        needed_elsewhere: Callable[[BlobId], bool] = lambda blob: False,
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
        self._needed_elsewhere = needed_elsewhere
        self._committed: deque[Checkpoint] = deque()  # the newest, and the one before it where updates are shared
        self._kept: set[str] = set()  # updates of the last round, where others may read them
        self._checked: dict[str, Checked] = {}  # of collected updates, by blob: saves the second reading
        self._sound: set[str] = set()  # checkpoints, by name, whose models are what they should be
        self._making = trio.Lock()  # a checkpoint that is proposed and committed meanwhile is made once
        self._lies: set[str] = set()  # and those whose blobs prove that their makers lied
        self._models: set[str] = set()  # models and schemas of checkpoints, which stay whatever else is called so
        self._updates: set[str] = set()  # collected for the round under way
        self.norms: dict[str, float] = {}  # of its updates, by blob, where they were computed here; for people
        self.fetching: dict[BlobId, str] = {}  # what each blob is that is on its way here
        self._obtaining: Counter[str] = Counter()  # blobs of checkpoints that are being made durable just now

    # --- checkpoints ---------------------------------------------------------------------------------------------
    async def obtain(self, wanted: Obtain) -> bool:
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
            log.info("checkpoint %d could not be obtained yet: %s", checkpoint.round, error.what)
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
        from aggregation.codecs import difference_bytes

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
        from aggregation.schema import Schema

        if self._schema is None or self._schema[0] != checkpoint.tensor_schema:
            await self.blobs.of_checkpoint(checkpoint, checkpoint.tensor_schema)
            raw = await self._disk.read_blob(BlobId(checkpoint.tensor_schema))
            self._schema = checkpoint.tensor_schema, Schema.from_bytes(raw)
        return self._schema[1]

    async def _fetch(
        self, blob: BlobId, sources: Iterable[NodeId], bytes_max: int, round_number: int, *, passing: bool = False
    ) -> None:
        if not await self._disk.has_blob(blob):
            await self._fetch_from(blob, list(sources), bytes_max, "checkpoint", round_number)
            if passing:
                self.blobs.passing.add(blob)

    async def _fetch_from(
        self, blob: BlobId, sources: Sequence[NodeId], bytes_max: int, kind: str, round_number: int
    ) -> None:
        self.fetching[blob] = kind
        try:
            with self._spans.measuring("fetch", round_number) as measured:
                measured.peer, measured.bytes = source, size = await self._bulk.fetch(blob, sources, bytes_max)
        finally:
            self.fetching.pop(blob, None)
        self._moved(source, kind, size, round_number)

    # --- updates -------------------------------------------------------------------------------------------------
    async def collect(self, wanted: Collect, base: Checkpoint) -> Collected:
        """Fetch an update from its node and check it: length, form, finite values, norm."""
        offer = wanted.offer
        try:
            return await self._fetch_update(wanted, await self.schema(base)) or await self._check(wanted, base)
        except FednodeError as error:
            if isinstance(error, Refused) and error.code == "blob-too-large":
                # By the name that a node gives it which has the blob already: an auditor must judge alike.
                return Collected(wanted.name, "update-length", error.what)
            log.info("the update of %s for round %d could not be had yet: %s", offer.node, offer.round, error.what)
            return Collected(wanted.name, "unreachable", error.what)

    async def _fetch_update(self, wanted: Collect, schema: "Schema") -> Collected | None:
        """Have the update here, or say why it is refused. What has not the length that it must have is not fetched."""
        offer = wanted.offer
        size = self.settings().update_bytes(schema)
        if refusal := why_not_fetched(offer, self._manifest.aggregation.codec, size):
            return Collected(wanted.name, *refusal)
        await self.fetch_update(offer, [NodeId(offer.node)], size)
        return None

    async def fetch_update(self, offer: Offer, sources: Sequence[NodeId], size: int) -> None:
        """Have an update here while its round lasts, and the next one where others may read it."""
        if not await self._disk.has_blob(BlobId(offer.update)):
            await self._fetch_from(BlobId(offer.update), list(dict.fromkeys(sources)), size, "update", offer.round)
            self.blobs.passing.add(offer.update)
        self._updates.add(offer.update)

    async def _check(self, wanted: Collect, base: Checkpoint) -> Collected:
        from aggregation.sources import as_source
        from aggregation.updates import Refusal, check_update, read_counters, update_of

        offer, settings = wanted.offer, self.settings()
        schema = await self.schema(base)
        base_model = as_source(await self.blobs.of_checkpoint(base, base.model))
        samples = counted_samples(offer, base.round + 1)
        update = update_of(offer.node, await self._disk.blob_data(BlobId(offer.update)), samples)

        def work() -> "Checked | Refusal":
            bounds = settings.bounds(read_counters(schema, base_model, schema.counters_offset))
            return check_update(settings.of_updates(schema), settings.update_coding, bounds, update)

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
                model, difference, server_state = await self._store(result)
                self._models |= {model, wanted.base.tensor_schema}
        except FednodeError as error:
            return Combined(wanted.round, wanted.term, failed=error.what)
        self._checked.clear()
        outcome = result.outcome
        self.learn_norms(outcome, {node: offer.update for node, (_, offer) in offers.items()})
        if beyond := outcome.stats.get("liars_not_borne"):
            said = "round %d is small: its rule bears %d liars, and %d more were asked for"
            log.warning(said, wanted.round, outcome.stats["liars_assumed"], beyond)
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

    async def _store(self, result: "CombinedRound") -> tuple[BlobId, BlobId, str]:
        """What came of a round, as blobs. Large ones are files: the model is read through while the others are."""
        model = partial(self.blobs.put, result.model)
        difference = partial(self.blobs.put_for_a_round, result.difference)
        if not result.has_server_state:
            return *await both(model, difference), ""
        made, difference_blob = await both(model, difference)
        return made, difference_blob, await self.blobs.put_for_a_round(result.server_state)

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
        return obtaining if has_ended else obtaining | self.blobs.passing | self._updates | self._kept

    def holds(self, blob: BlobId) -> bool:
        """Whether this run works with `blob`, or keeps it."""
        return blob in self.blobs.passing or blob in self._models or self.has_update(blob)

    def has_update(self, blob: BlobId) -> bool:
        """Whether `blob` is an update that we have seen as aggregator or auditor, of this round or of the last."""
        return blob in self._updates or blob in self._kept

    async def forget_before(self, checkpoint: Checkpoint, ours: Offer | None) -> None:
        """A checkpoint is committed: what only led to it is not needed any more. Models stay, for who wants them.

        `ours` is the newest offer of this node."""
        self._models |= {checkpoint.model, checkpoint.tensor_schema}
        over = self.blobs.passing & update_blobs(checkpoint)
        if ours is not None and ours.round <= checkpoint.round:
            over.add(ours.update)
        self._updates.clear()
        self.norms.clear()
        are_kept = are_updates_shared(self._manifest)
        if are_kept:  # who is accused for a round may have to be judged in the next
            over, self._kept = self._kept - over, over
        for update in sorted(over):
            await self._forget(update)
        self._committed.append(checkpoint)
        while len(self._committed) > (2 if are_kept else 1):
            before, after = self._committed.popleft(), self._committed[0]
            for blob in {before.difference, before.server_state} - {after.difference, after.server_state, ""}:
                await self._forget(blob)

    async def _forget(self, blob: str) -> None:
        """Delete a blob, if it came or was made here for a round alone, and nobody else works with it."""
        if blob in self.blobs.passing and blob not in self._models and not self._needed_elsewhere(BlobId(blob)):
            await self._disk.delete_blob(BlobId(blob))
        self.blobs.passing.discard(blob)


def why_not_fetched(offer: Offer, codec: str, size: int) -> tuple[str, str] | None:
    """Why an update is refused for what its offer says of its bytes: a code and a sentence. `codec` and `size` are what
    the run makes them."""
    if offer.codec != codec:
        return "wrong-codec", f"it is said to be in {offer.codec!r}; the run's updates are in {codec}"
    if offer.update_bytes != size:
        return "update-length", f"it is said to have {offer.update_bytes} bytes; the schema in {codec} makes {size}"
    return None
