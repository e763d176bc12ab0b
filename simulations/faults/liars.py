"""Nodes that lie: their own code, with one thing done wrong on purpose.

A trainer that lies sends an update that it never learned. An aggregator that lies signs a checkpoint that does not
follow from the updates it lists: rightly signed, rightly built on its base, and wrong. Only whoever recomputes it, or
compares two, can tell.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from aggregation.checkpoints import apply_difference
from aggregation.codecs.registry import codec_named, counters_position
from aggregation.tensors.schema import Schema
from node.node import Node
from node.run.data import RunData
from node.run.driver import RunDriver
from node.seams import (
    CodedUpdate,
    EvaluateResult,
    InitialModel,
    Keep,
    Predictions,
    TaskOutput,
    TaskSession,
    TaskSpec,
    Trainer,
    TrainResult,
)
from protocol.keys import BlobId, NodeId
from protocol.run.checkpoint import Checkpoint, Issue, checkpoint_name, open_checkpoint, open_issue, sign_note
from protocol.run.events import Combine, Combined
from protocol.run.messages import Proposal, RunMessage
from simulations.faults.lies import lied

AGGREGATOR_LIES = ("wrong-sum", "dropped-update", "two-checkpoints")


# --- trainers --------------------------------------------------------------------------------------------------------
class LyingTrainer:
    """A trainer whose updates are not what was learned, from `from_round` on."""

    def __init__(self, honest: Trainer, lie: str, from_round: int, seed: str) -> None:
        self._honest = honest
        self._lie = lie
        self._from_round = from_round
        self._seed = seed

    async def open(self, spec: TaskSpec, say: Callable[[TaskOutput], None], keep: Keep | None = None) -> TaskSession:
        honest = await self._honest.open(spec, say, keep)
        return _LyingSession(honest, spec.codec, self._lie, self._from_round, self._seed)

    async def offload(self, work: Callable[[], Any]) -> Any:
        return await self._honest.offload(work)

    async def forget(self, run_id: str) -> None:
        await self._honest.forget(run_id)

    async def carry_on(self, run_id: str, round_number: int, update: BlobId, *, used: bool) -> None:
        await self._honest.carry_on(run_id, round_number, update, used=used)

    async def offered_rounds(self, run_id: str) -> Sequence[int]:
        return await self._honest.offered_rounds(run_id)


class _LyingSession:
    def __init__(self, honest: TaskSession, codec: str, lie: str, from_round: int, seed: str) -> None:
        self._honest = honest
        self._codec = codec
        self._lie = lie
        self._from_round = from_round
        self._seed = seed

    async def initial_model(self) -> InitialModel:
        return await self._honest.initial_model()

    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        result = await self._honest.train(round_number, schema, model, server_state, coded)
        if round_number < self._from_round:
            return result
        update = result.update if isinstance(result.update, bytes) else result.update.read_bytes()
        random = np.random.Generator(np.random.PCG64(Random(f"{self._seed}, {round_number}").getrandbits(64)))
        return replace(result, update=falsified(update, Schema.from_bytes(schema), self._codec, self._lie, random))

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult | None:
        return await self._honest.evaluate(round_number, schema, model)

    async def predict(self, round_number: int, schema: bytes, model: bytes | Path) -> Predictions:
        return await self._honest.predict(round_number, schema, model)

    async def close(self) -> None:
        await self._honest.close()


def falsified(update: bytes, schema: Schema, codec: str, lie: str, random: np.random.Generator) -> bytes:
    """A coded difference, made false in one of TRAINER_LIES' ways. Counters stay as they are."""
    coding, elements = codec_named(codec), schema.averaged_elements
    end = counters_position(schema, coding)
    values = np.array(coding.decode(update[:end], np.empty(elements, np.float32)), np.float32)
    return coding.encode(lied(values, lie, random)) + update[end:]


# --- aggregators -----------------------------------------------------------------------------------------------------
def make_liar(node: Node, lie: str, from_round: int) -> None:
    """Have a node that has not begun to live lie whenever it aggregates, in one of AGGREGATOR_LIES' ways."""
    honest = node.runs._make_driver

    async def lying(known: Any, machine: Any) -> RunDriver:
        driver = await honest(known, machine)
        codec = known.manifest.aggregation.codec_of_checkpoints
        if lie == "two-checkpoints":
            driver._send = TwoFaced(node, driver._send, driver._data, codec, from_round).send
        else:
            driver._data = LyingData(driver._data, node, codec, lie, from_round)  # type: ignore[assignment]
        return driver

    node.runs._make_driver = lying  # type: ignore[method-assign]


class LyingData:
    """A run's data, whose combined rounds are wrong. Everything else is left to the honest one."""

    def __init__(self, honest: RunData, node: Node, codec: str, lie: str, from_round: int) -> None:
        self._honest = honest
        self._node = node
        self._codec = codec
        self._lie = lie
        self._from_round = from_round

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    async def combine(self, wanted: Combine) -> Combined:
        honest = await self._honest.combine(wanted)
        if honest.failed or wanted.round < self._from_round:
            return honest
        if self._lie == "dropped-update" and len(wanted.offers) > 1:
            return await self._honest.combine(replace(wanted, offers=wanted.offers[:-1]))
        model, difference = await opposite(self._node, self._honest, self._codec, wanted.base, honest.difference)
        return replace(honest, model=model, difference=difference)


async def opposite(node: Node, data: RunData, codec: str, base: Checkpoint, difference: str) -> tuple[BlobId, BlobId]:
    """Model and difference, stored, of a step in the opposite direction: as well-formed as the honest one."""
    schema, coding = await data.checkpoints.schema(base), codec_named(codec)
    raw = await node.disk.read_blob(BlobId(difference))
    end = counters_position(schema, coding)
    values = np.array(coding.decode(raw[:end], np.empty(schema.averaged_elements, np.float32)), np.float32)
    wrong = coding.encode(-values) + raw[end:]
    model = apply_difference(await node.disk.read_blob(BlobId(base.model)), schema, wrong, codec)
    return await node.disk.put_blob(model), await node.disk.put_blob(wrong)


class TwoFaced:
    """Sends every second voter another checkpoint of the same round, under the same term, and the true one after it."""

    def __init__(
        self, node: Node, send: Callable[[NodeId, RunMessage], None], data: RunData, codec: str, from_round: int
    ) -> None:
        self._node = node
        self._send = send
        self._codec = codec
        self._from_round = from_round
        self._told: set[tuple[NodeId, int]] = set()

    def send(self, peer: NodeId, message: RunMessage) -> None:
        if isinstance(message, Proposal) and message.checkpoint:
            checkpoint = open_checkpoint(message.checkpoint).body
            if self._is_for_the_other_face(peer, checkpoint):
                self._send(peer, self._other_face(message, checkpoint))
        self._send(peer, message)

    def _is_for_the_other_face(self, peer: NodeId, checkpoint: Checkpoint) -> bool:
        mine = checkpoint.maker == self._node.identity.node_id and checkpoint.round >= self._from_round
        is_new = (peer, checkpoint.round) not in self._told
        self._told.add((peer, checkpoint.round))
        return mine and is_new and peer in checkpoint.voters[::2]

    def _other_face(self, message: Proposal, checkpoint: Checkpoint) -> Proposal:
        key = self._node.identity.keys.node
        other = checkpoint.model_copy(update={"reason": "another face"})
        issue = open_issue(message.issue).body
        issued = Issue(run=issue.run, term=issue.term, round=issue.round, checkpoint=checkpoint_name(other))
        return Proposal(run=message.run, issue=sign_note(key, issued), checkpoint=sign_note(key, other))
