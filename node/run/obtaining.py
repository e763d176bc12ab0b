"""Having a checkpoint here: its schema, its model, its server state, each fetched or made, and looked at.

A model is made from the one before and the difference, where both can be had: that is half the bytes, and proves the
difference. What proves that the checkpoint's maker lied is not asked for again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import trio

from node.run.blobs import RunBlobs
from node.run.fetching import Fetching
from node.run.no_room import LacksRoom, is_no_room
from node.seams import Disk, Trainer
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.manifest.manifest import Manifest
from protocol.run.checkpoint import Checkpoint, checkpoint_blobs
from protocol.run.events import Obtain

if TYPE_CHECKING:
    from aggregation.tensors.schema import Schema

log = logging.getLogger("fednode.run")

SCHEMA_BYTES_MAX = 1024 * 1024  # aggregation.tensors.schema's own bound on what it parses


class Obtaining:
    """One run's checkpoints, as bytes."""

    def __init__(self, manifest: Manifest, disk: Disk, trainer: Trainer, blobs: RunBlobs, fetching: Fetching) -> None:
        self._manifest = manifest
        self._disk = disk
        self._trainer = trainer
        self._blobs = blobs
        self._fetching = fetching
        self._schema: tuple[str, Schema] | None = None
        self._sound: set[str] = set()  # checkpoints, by name, whose models are what they should be
        self._making = trio.Lock()  # a checkpoint that is proposed and committed meanwhile is made once
        self._lies: set[str] = set()  # and those whose blobs prove that their makers lied
        self._not_obtained = (-1, "")  # the round and why: said once
        self._under_way: Counter[str] = Counter()  # blobs of checkpoints that are being made durable just now
        self.models_seen: set[str] = set()  # models and schemas of checkpoints, which stay whatever else is called so

    async def obtain(self, wanted: Obtain, lacks_room: LacksRoom) -> bool:
        """Make every blob of a checkpoint durable here. False, with a line in the log, when that was not possible."""
        checkpoint = wanted.checkpoint
        if wanted.name in self._lies:
            return False  # it is proposed again with every heartbeat
        held = checkpoint_blobs(checkpoint)
        self._under_way.update(held)
        try:
            self.models_seen |= {checkpoint.model, checkpoint.tensor_schema}
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
            self._under_way.subtract(held)
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
        await self._check(partial(check_model, schema, data))
        self._sound.add(wanted.name)

    async def _obtain_state(self, wanted: Obtain, schema: "Schema") -> None:
        """The server optimizer's state, of the length that it must have, and finite; or none, where that is allowed.

        Who needs it is the next round. So of a checkpoint with which the run is over it is kept for a while only
        (retention's `ended`), and who comes after that has the model without it; who lets the run go on fetches it
        from whoever has it. Raises RemoteProtocolError when it is none; FednodeError when it cannot be had."""
        from aggregation.server_state import check_server_state, state_bytes
        from node.run.combine_settings import settings_of

        checkpoint, settings = wanted.checkpoint, settings_of(self._manifest)
        state, size = BlobId(checkpoint.server_state), state_bytes(schema, settings)
        try:
            await self._fetch(state, wanted.sources, size, checkpoint.round, passing=True)
        except FednodeError as error:
            if not wanted.may_lack_state or isinstance(error, RemoteProtocolError) or is_no_room(error):
                raise
            log.info("the model of round %d is had without its server state: %s", checkpoint.round, error.what)
            return
        data = await self._disk.blob_data(state)
        await self._check(partial(check_server_state, schema, settings, data))

    async def _check(self, check: Callable[[], object]) -> None:
        """Raises RemoteProtocolError for what `check` refuses: it was made like that."""
        try:
            await self._trainer.offload(check)
        except FednodeError as error:
            raise RemoteProtocolError(error.what) from error

    async def _fetch_difference(self, previous: Checkpoint, wanted: Obtain, schema: "Schema") -> None:
        """What makes a checkpoint's model of the one before. Raises RemoteProtocolError where there must be one."""
        from aggregation.codecs.registry import difference_bytes
        from node.run.combine_settings import settings_of

        checkpoint = wanted.checkpoint
        if checkpoint.difference:
            size = difference_bytes(schema, settings_of(self._manifest).checkpoint_coding)
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
            await self._blobs.of_checkpoint(previous, previous.model),
            schema,
            await self._disk.blob_data(BlobId(checkpoint.difference)),
            self._manifest.aggregation.codec_of_checkpoints,
            self._disk.scratch(),
        )
        if not await self._blobs.put_as(BlobId(checkpoint.model), await self._trainer.offload(work)):
            await self._disk.read_blob(BlobId(previous.model))  # raises when it is our copy that is wrong
            raise RemoteProtocolError("Its difference, added to the model before, does not make its model")

    async def schema(self, checkpoint: Checkpoint) -> "Schema":
        """A run has one schema, read once. Raises RemoteProtocolError when what is called its schema is none."""
        from aggregation.tensors.schema import Schema

        if self._schema is None or self._schema[0] != checkpoint.tensor_schema:
            await self._blobs.of_checkpoint(checkpoint, checkpoint.tensor_schema)
            raw = await self._disk.read_blob(BlobId(checkpoint.tensor_schema))
            self._schema = checkpoint.tensor_schema, Schema.from_bytes(raw)
        return self._schema[1]

    async def _fetch(
        self, blob: BlobId, sources: Iterable[NodeId], bytes_max: int, round_number: int, *, passing: bool = False
    ) -> None:
        is_here = await (self._blobs.claim(blob, round_number) if passing else self._disk.has_blob(blob))
        if not is_here:
            await self._fetching.fetch(blob, sources, bytes_max, "checkpoint", round_number)

    def under_way(self) -> set[str]:
        """The blobs of checkpoints that are being made durable just now."""
        return {blob for blob, count in self._under_way.items() if count}
