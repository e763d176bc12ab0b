"""The bytes of one run: checkpoints obtained, updates collected and checked, rounds combined. What the run's machine
asks for, done with the four seams; each answer is an event for the machine.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from node.bulk import Bulk
from node.seams import Disk, Trainer
from protocol.checkpoint import Checkpoint, UpdateEntry, open_offer
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_BYTES_MAX
from protocol.manifest import Manifest
from protocol.run_events import Collect, Collected, Combine, Combined, Obtain

if TYPE_CHECKING:
    from aggregation.settings import CombineSettings
    from aggregation.updates import Checked

log = logging.getLogger("fednode.run")

SCHEMA_BYTES_MAX = 1024 * 1024  # aggregation.schema's own bound on what it parses


class RunData:
    """One run's blobs. `moved` is told of every blob that came from elsewhere: (source, kind, bytes, round)."""

    def __init__(
        self,
        manifest: Manifest,
        disk: Disk,
        bulk: Bulk,
        trainer: Trainer,
        moved: Callable[[NodeId, str, int, int], None],
    ) -> None:
        self._manifest = manifest
        self._disk = disk
        self._bulk = bulk
        self._trainer = trainer
        self._moved = moved
        self._committed: Checkpoint | None = None
        self._checked: dict[str, Checked] = {}  # of collected updates, by blob: saves the second reading

    # --- checkpoints ---------------------------------------------------------------------------------------------
    async def obtain(self, wanted: Obtain) -> bool:
        """Make every blob of a checkpoint durable here. False, with a line in the log, when that was not possible."""
        checkpoint = wanted.checkpoint
        try:
            await self._fetch(BlobId(checkpoint.tensor_schema), wanted.sources, SCHEMA_BYTES_MAX, checkpoint.round)
            if not await self._disk.has_blob(BlobId(checkpoint.model)):
                made = wanted.previous is not None and await self._make_from(wanted.previous, wanted)
                if not made:
                    await self._fetch(BlobId(checkpoint.model), wanted.sources, BLOB_BYTES_MAX, checkpoint.round)
            if checkpoint.server_state:
                await self._fetch(BlobId(checkpoint.server_state), wanted.sources, BLOB_BYTES_MAX, checkpoint.round)
        except FednodeError as error:
            log.info("checkpoint %d could not be obtained yet: %s", checkpoint.round, error.what)
            return False
        return True

    async def _make_from(self, previous: Checkpoint, wanted: Obtain) -> bool:
        """The model as its base plus the coded difference, which is half the bytes. False when it gives another."""
        from aggregation.checkpoints import apply_difference  # numpy, only in nodes that have runs

        checkpoint = wanted.checkpoint
        if checkpoint.model == previous.model:
            return True
        if not checkpoint.difference or not await self._disk.has_blob(BlobId(previous.model)):
            return False
        difference = BlobId(checkpoint.difference)
        await self._fetch(difference, wanted.sources, BLOB_BYTES_MAX, checkpoint.round)
        schema = await self.schema(checkpoint)
        work = partial(
            apply_difference,
            await self._disk.blob_data(BlobId(previous.model)),
            schema,
            await self._disk.blob_data(difference),
            self._manifest.aggregation.codec,
        )
        made = await self._disk.put_blob(await self._trainer.offload(work))
        if made != checkpoint.model:
            log.warning("the difference of round %d does not make the model that it should", checkpoint.round)
        return made == checkpoint.model

    async def schema(self, checkpoint: Checkpoint) -> Any:
        from aggregation.schema import Schema

        return Schema.from_bytes(await self._disk.read_blob(BlobId(checkpoint.tensor_schema)))

    async def _fetch(self, blob: BlobId, sources: Iterable[NodeId], bytes_max: int, round_number: int) -> None:
        if not await self._disk.has_blob(blob):
            source, size = await self._bulk.fetch(blob, list(sources), bytes_max)
            self._moved(source, "checkpoint", size, round_number)

    # --- updates -------------------------------------------------------------------------------------------------
    async def collect(self, wanted: Collect, base: Checkpoint) -> Collected:
        """Fetch an update from its node and check it: length, form, finite values, norm."""
        offer = wanted.offer
        blob, node = BlobId(offer.update), NodeId(offer.node)
        try:
            if not await self._disk.has_blob(blob):
                source, size = await self._bulk.fetch(blob, [node], offer.update_bytes)
                self._moved(source, "update", size, offer.round)
        except FednodeError as error:
            log.info("the update of %s for round %d could not be fetched yet: %s", node, offer.round, error.what)
            return Collected(wanted.name, "unreachable", error.what)
        return await self._check(wanted, base)

    async def _check(self, wanted: Collect, base: Checkpoint) -> Collected:
        from aggregation.schema import Schema
        from aggregation.sources import as_source
        from aggregation.updates import Bounds, Refusal, check_update, read_counters, update_of

        offer, settings = wanted.offer, self._settings()
        schema: Schema = await self.schema(base)
        base_model = as_source(await self._disk.blob_data(BlobId(base.model)))
        update = update_of(offer.node, await self._disk.blob_data(BlobId(offer.update)), offer.samples)

        def work() -> "Checked | Refusal":
            bounds = Bounds(read_counters(schema, base_model, schema.counters_offset), settings.norm_bound)
            return check_update(schema, settings.update_coding, bounds, update)

        found = await self._trainer.offload(work)
        if isinstance(found, Refusal):
            return Collected(wanted.name, found.code, found.sentence)
        self._checked[offer.update] = found
        return Collected(wanted.name)

    async def combine(self, wanted: Combine) -> Combined:
        """Combine the collected updates with the base, and store what comes of it."""
        from aggregation.updates import update_of
        from node.run_combine import combine_round

        offers = {offer.node: (raw, offer) for raw in wanted.offers for offer in (open_offer(raw).body,)}
        try:
            schema = await self.schema(wanted.base)
            state = wanted.base.server_state
            updates = [
                update_of(
                    offer.node,
                    await self._disk.blob_data(BlobId(offer.update)),
                    offer.samples,
                    self._checked.get(offer.update),
                )
                for _, offer in offers.values()
            ]
            base = await self._disk.blob_data(BlobId(wanted.base.model))
            server = await self._disk.blob_data(BlobId(state)) if state else b""
            work = partial(combine_round, base, schema, updates, self._settings(), server, self._disk.scratch())
            with await self._trainer.offload(work) as result:
                model = await self._disk.put_blob(result.model)
                difference = await self._disk.put_blob(result.difference)
                server_state = await self._disk.put_blob(result.server_state) if result.has_server_state else ""
        except FednodeError as error:
            return Combined(wanted.round, wanted.term, failed=error.what)
        self._checked.clear()
        outcome = result.outcome
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

    def _settings(self) -> "CombineSettings":
        from aggregation.settings import CombineSettings

        keys = self._manifest.aggregation
        return CombineSettings(
            rule=keys.rule,
            weighting=keys.weighting,
            server_optimizer=keys.server_optimizer,
            server_learning_rate=keys.server_learning_rate,
            server_parameters={"momentum": keys.server_momentum} if keys.server_optimizer == "momentum" else {},
            update_codec=keys.codec,
            checkpoint_codec=keys.codec,
            norm_bound=keys.norm_max,
        )

    async def forget_before(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is committed: what only led to it is not needed any more. Models stay, for who wants them."""
        for entry in checkpoint.updates:
            await self._disk.delete_blob(BlobId(open_offer(entry.offer).body.update))
        before, self._committed = self._committed, checkpoint
        if before is not None:
            for blob in {before.difference, before.server_state} - {checkpoint.difference, checkpoint.server_state, ""}:
                await self._disk.delete_blob(BlobId(blob))
