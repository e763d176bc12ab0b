"""Our own task in one run: a warm session with the trainer, opened when it is first needed.

What training gave is durable before it is told of: the update lies in the blob store when the offer is made.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TypeVar

import trio

from fednode_logging import split_class
from node.record.artifact_keeper import ArtifactKeeper
from node.run.blobs import RunBlobs
from node.run.carried import CarriedState
from node.run.chronicle import Chronicle
from node.run.early import OwnEarly
from node.run.history import RunHistory
from node.run.spans import Spans
from node.seams import Disk, TaskOutput, TaskSession, TaskSpec, Trainer, TrainerFailed
from protocol.keys import BlobId
from protocol.run.checkpoint import METRIC_NAME_CHARACTERS_MAX, Checkpoint, Offer, is_metric_name
from protocol.run.events import Evaluate, Evaluated, Train, Trained

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
        chronicle: Chronicle,
        spans: Spans,
        history: RunHistory,
        early: OwnEarly,
    ) -> None:
        self._spec = spec
        self.early = early
        self._disk = disk
        self._blobs = blobs
        self._trainer = trainer
        self._slots = slots
        self._say = chronicle.task_said
        self._keeper = ArtifactKeeper(chronicle, disk, trainer.offload)
        self._has_said_what_is_not_told = False
        self._spans = spans
        self.carried = CarriedState(spec, trainer, blobs, history, partial(chronicle.log, "WARNING", "fednode.run"))
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

    def keeps(self, blob: BlobId) -> bool:
        """Whether an artifact of the task is this blob."""
        return self._keeper.holds(blob)

    def stop_training(self) -> None:
        """The run's last checkpoint is committed: nobody waits for what is being trained."""
        self._over = True
        if self._training is not None:
            self._training.cancel()

    async def _train(self, wanted: Train) -> Trained:
        base = wanted.base
        await self.carried.catch_up(base)
        async with self._busy, self._slots:
            session = await self._open()
            try:
                await self.carried.on_committed(base)
                server_state = await self.carried.server_state(base)
                schema, model, began = await self._schema(base), await self._model(base), trio.current_time()
                self.early.expect(wanted.round, wanted.name)
                result = await session.train(wanted.round, schema, model, server_state, self.early)
                self.early.whole()
                trained_at = trio.current_time()
                update = await self._blobs.put_for_a_round(result.update, wanted.round, may_change=True)
                await self.carried.keep(wanted.round, update)
                stored_s = trio.current_time() - trained_at
            except BaseException as error:
                self.early.end()
                if isinstance(error, TrainerFailed):
                    await self._drop()
                raise
        size = (await self._disk.open_blob(update)).size
        self._spans.trained(wanted.round, trained_at - began, stored_s, size, result)
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
                metrics=self._signed(result.metrics),
                steps=result.steps,
                spans=self._spans.to_tell(over=wanted.round - 1),
                usage=dict(result.usage),
            )
        )

    async def evaluate(self, wanted: Evaluate) -> Evaluated | None:
        """Measure a checkpoint on our held-out data; without any the samples are 0. None when `close` came first.

        Raises TrainerFailed."""
        if self._spec.data_path is None:
            return self._nothing_to_measure(wanted)
        return await self._unless_closed(trio.CancelScope(), partial(self._evaluate, wanted))

    async def _evaluate(self, wanted: Evaluate) -> Evaluated:
        checkpoint = wanted.checkpoint
        async with self._busy, self._slots:
            session = await self._open()
            # A session whose worker has died is kept: training will find it so, and end our part with the reason.
            schema, model = await self._schema(checkpoint), await self._model(checkpoint)
            with self._spans.measuring("evaluate", checkpoint.round) as measured:
                result = await session.evaluate(checkpoint.round, schema, model)
                measured.is_kept = result is not None
        if result is None:
            return self._nothing_to_measure(wanted)
        spans = self._spans.to_tell(over=checkpoint.round)
        return Evaluated(checkpoint.round, wanted.name, result.samples, self._signed(result.metrics), spans)

    def _signed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics for everybody. Says once in a run's life here what does not fit."""
        told = told_to_others(metrics)
        finite = sum(map(isfinite, metrics.values()))
        if len(told) < finite and not self._has_said_what_is_not_told:
            self._has_said_what_is_not_told = True
            text = (
                f"{finite - len(told)} of a result's {finite} metrics are not told: {METRICS_MAX} fit, each class's "
                f"counted, with names of up to {METRIC_NAME_CHARACTERS_MAX} characters, none of them "
                "invisible; fednode.log keeps more, here"
            )
            self._say(TaskOutput("log", text=text, level="WARNING"))
        return told

    def _nothing_to_measure(self, wanted: Evaluate) -> Evaluated:
        over = wanted.checkpoint.round
        return Evaluated(over, wanted.name, 0, {}, self._spans.to_tell(over))

    async def close(self) -> None:
        """End the worker, whatever it is at. It is opened again when something is still to be done."""
        self.early.end()
        for call in self._calls:
            call.cancel()
        async with self._busy:
            await self._drop()

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
            self._session = await self._trainer.open(self._spec, self._say, self._keeper.keep)
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


def told_to_others(metrics: Mapping[str, float]) -> dict[str, float]:
    """What of `metrics` others can use, and a note has room for, figures of single classes last: a NaN of one node
    would hide everybody's mean."""
    fits = [name for name, value in metrics.items() if is_metric_name(name) and isfinite(value)]
    fits.sort(key=lambda name: split_class(name)[1] is not None)
    return {name: float(metrics[name]) for name in fits[:METRICS_MAX]}
