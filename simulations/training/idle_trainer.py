"""A Trainer whose training does nothing, for simulations of the control plane alone: no torch, no task's code.

The model is a few numbers; every update is another small change of them, drawn from run, node and round, for equal
updates would be one blob that nobody has to send. Nothing is held out, so nothing is measured.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import trio

from aggregation.codecs.registry import codec_named
from aggregation.tensors.schema import Schema, TensorSpec
from node.seams import (
    CodedUpdate,
    EvaluateResult,
    InitialModel,
    Keep,
    Predictions,
    TaskOutput,
    TaskSpec,
    TrainerFailed,
    TrainResult,
)
from protocol.keys import BlobId

IDLE_VALUES = 16  # in the model: enough to be one
_SCHEMA = Schema.of([TensorSpec("idle", "float32", (IDLE_VALUES,), "averaged")])
_STEP = np.float32(2.0**-20)  # of what is drawn, 16 bits wide: changes stay small


class IdleTrainer:
    """Stands where a trainer belongs. A round's training takes `train_s` seconds of virtual time."""

    def __init__(self, train_s: float = 0.1) -> None:
        self._train_s = train_s

    async def open(self, spec: TaskSpec, say: Callable[[TaskOutput], None], keep: Keep | None = None) -> "IdleSession":
        await trio.lowlevel.checkpoint()
        return IdleSession(spec, self._train_s)

    async def offload(self, work: Callable[[], Any]) -> Any:
        """Done at once: computing takes no virtual time."""
        await trio.lowlevel.checkpoint()
        return work()

    async def forget(self, run_id: str) -> None:
        await trio.lowlevel.checkpoint()

    async def carry_on(self, run_id: str, round_number: int, update: BlobId, *, used: bool) -> None:
        """It carries nothing."""
        await trio.lowlevel.checkpoint()

    async def offered_rounds(self, run_id: str) -> Sequence[int]:
        await trio.lowlevel.checkpoint()
        return ()


class IdleSession:
    """A participant that learns nothing, from one sample a round."""

    def __init__(self, spec: TaskSpec, train_s: float) -> None:
        self._spec = spec
        self._train_s = train_s

    async def initial_model(self) -> InitialModel:
        await trio.lowlevel.checkpoint()
        return InitialModel(_SCHEMA.to_bytes(), bytes(_SCHEMA.model_bytes))

    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        await trio.sleep(self._train_s)
        spec = self._spec
        draw = blake2b(f"{spec.run_id} {spec.node_id} {round_number}".encode(), digest_size=2 * IDLE_VALUES).digest()
        change = np.frombuffer(draw, "<i2").astype(np.float32) * _STEP
        if spec.method == "scaffold":
            change = np.concatenate([change, np.zeros_like(change)])  # its control stays where it is
        return TrainResult(bytes(codec_named(spec.codec).encode(change)), 1, {}, 1)

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult | None:
        await trio.lowlevel.checkpoint()
        return None

    async def predict(self, round_number: int, schema: bytes, model: bytes | Path) -> Predictions:
        raise TrainerFailed("An idle trainer predicts nothing", remedy="simulate a task that learns")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
