"""Our own task in one run: a warm session with the trainer, opened when it is first needed.

What training gave is durable before it is told of: the update lies in the blob store when the offer is made.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TypeVar

import trio

from node.run_blobs import RunBlobs
from node.seams import Disk, TaskOutput, TaskSession, TaskSpec, Trainer, TrainerFailed
from protocol.checkpoint import Checkpoint, Offer
from protocol.keys import BlobId
from protocol.run_events import Evaluate, Evaluated, Train, Trained

T = TypeVar("T")

METRICS_MAX = 64  # of one offer or report: what its message class allows


class RunTask:
    """Trains and evaluates, one call at a time. `slots` bounds how many runs of this node train at once."""

    def __init__(
        self,
        spec: TaskSpec,
        disk: Disk,
        blobs: RunBlobs,
        trainer: Trainer,
        slots: trio.CapacityLimiter,
        say: Callable[[TaskOutput], None],
    ) -> None:
        self._spec = spec
        self._disk = disk
        self._blobs = blobs
        self._trainer = trainer
        self._slots = slots
        self._say = say
        self._session: TaskSession | None = None
        self._busy = trio.Lock()
        self._calls: set[trio.CancelScope] = set()
        self._training: trio.CancelScope | None = None
        self._over = False

    async def train(self, wanted: Train) -> Trained | None:
        """Train a round; the offer of it, unsigned, or None when the run ended first.

        Raises TrainerFailed, and FednodeError for the disk's sake."""
        if self._over:
            return None
        self._training = trio.CancelScope()
        return await self._unless_closed(self._training, partial(self._train, wanted))

    def stop_training(self) -> None:
        """The run's last checkpoint is committed: nobody waits for what is being trained."""
        self._over = True
        if self._training is not None:
            self._training.cancel()

    async def _train(self, wanted: Train) -> Trained:
        base = wanted.base
        async with self._busy, self._slots:
            session = await self._open()
            try:
                result = await session.train(wanted.round, await self._schema(base), await self._model(base))
                update = await self._disk.put_blob(result.update)
            except TrainerFailed:
                await self._drop()
                raise
        size = (await self._disk.open_blob(update)).size
        return Trained(
            Offer(
                run=self._spec.run_id,
                node=self._spec.node_id,
                round=wanted.round,
                base=wanted.name,
                update=update,
                update_bytes=size,
                samples=result.samples,
                codec=self._spec.codec,
                metrics=finite(result.metrics),
            )
        )

    async def evaluate(self, wanted: Evaluate) -> Evaluated | None:
        """Measure a checkpoint on our held-out data; without any the samples are 0. None when `close` came first.

        Raises TrainerFailed."""
        if self._spec.data_path is None:
            return Evaluated(wanted.checkpoint.round, wanted.name, 0, {})
        return await self._unless_closed(trio.CancelScope(), partial(self._evaluate, wanted))

    async def _evaluate(self, wanted: Evaluate) -> Evaluated:
        checkpoint = wanted.checkpoint
        async with self._busy, self._slots:
            session = await self._open()
            # A session whose worker has died is kept: training will find it so, and end our part with the reason.
            result = await session.evaluate(
                checkpoint.round, await self._schema(checkpoint), await self._model(checkpoint)
            )
        if result is None:
            return Evaluated(checkpoint.round, wanted.name, 0, {})
        return Evaluated(checkpoint.round, wanted.name, result.samples, finite(result.metrics))

    async def close(self) -> None:
        """End the worker, whatever it is at. It is opened again when something is still to be done."""
        for call in self._calls:
            call.cancel()
        async with self._busy:
            await self._drop()

    async def finish(self, *, may_go_on: bool) -> None:
        """The run is over: end the worker, and forget what the participant kept for it, unless the run may be resumed
        or extended."""
        await self.close()
        if not may_go_on:
            await self._trainer.forget(self._spec.run_id)

    def go_on(self) -> None:
        """The run was not over after all."""
        self._over = False

    async def _unless_closed(self, scope: trio.CancelScope, work: Callable[[], Awaitable[T]]) -> T | None:
        """What `work` gives, or None when it was cancelled, be it by `close`."""
        given: T | None = None
        self._calls.add(scope)
        try:
            with scope:
                given = await work()
        finally:
            self._calls.discard(scope)
        return given

    async def _open(self) -> TaskSession:
        if self._session is None:
            self._session = await self._trainer.open(self._spec, self._say)
        return self._session

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _schema(self, checkpoint: Checkpoint) -> bytes:
        await self._blobs.of_checkpoint(checkpoint, checkpoint.tensor_schema)
        return await self._disk.read_blob(BlobId(checkpoint.tensor_schema))

    async def _model(self, checkpoint: Checkpoint) -> bytes | Path:
        return await self._blobs.of_checkpoint(checkpoint, checkpoint.model)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What of `metrics` others can use: a NaN of one node would hide everybody's mean."""
    kept = {key: float(value) for key, value in metrics.items() if key and isfinite(value)}
    return dict(list(kept.items())[:METRICS_MAX])
