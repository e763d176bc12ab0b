"""The simulated Trainer: tasks run in this process, one after another or together, and take virtual time.

The same core as in a worker process does the work (node.training.training), with the same bits; what is trained
together (simulations.training.batched) agrees with them but for the order of float sums. No threads: under a mock clock
an hour of virtual time would pass before a thread's answer came.
"""

import shutil
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import trio

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
from node.training.capture import captured_in_process
from node.training.carried_files import name_next, offered_rounds, use_named
from node.training.sgd import Progress
from node.training.staged_files import discard
from node.training.training import LoadedTask, Trained
from node.training.worker_frames import PREDICTIONS_FILE
from protocol.keys import BlobId
from protocol.limits import EARLY_BYTES_MIN
from simulations.training.batched import BatchedTraining, Request
from simulations.training.companion import Companion

EVALUATION_SPEEDUP = 3.0  # a forward pass takes about a third of a training step

Say = Callable[[TaskOutput], None]
T = TypeVar("T")


class CodedInMemory:
    """node.seams.CodedFile of an update that has been coded in no time."""

    def __init__(self, update: bytes) -> None:
        self._update = update

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._update[offset : offset + length]

    def close(self) -> None:
        pass


class InProcessTrainer:
    """One node's trainer. It trains on `samples_per_s` samples in a second of virtual time.

    `directory` holds the participant's state of each run, and is the caller's to make and to remove. `together` is
    shared by the nodes of a simulation that are trained together where that can be done; without it the bits are exact.
    """

    def __init__(self, directory: Path, samples_per_s: float = 1000.0, together: BatchedTraining | None = None) -> None:
        self._directory = directory
        self._samples_per_s = samples_per_s
        self._together = together

    async def open(self, spec: TaskSpec, say: Say, keep: Keep | None = None) -> "InProcessSession":
        await trio.lowlevel.checkpoint()
        state = self._state_of(spec.run_id)
        state.mkdir(exist_ok=True)
        session = InProcessSession(spec, state, say, self._samples_per_s, self._together, keep)
        await session.keep_artifacts()
        return session

    async def offload(self, work: Callable[[], Any]) -> Any:
        """Done at once: computing takes no virtual time."""
        await trio.lowlevel.checkpoint()
        return work()

    async def forget(self, run_id: str) -> None:
        """Delete what this participant kept of a run that has ended."""
        await trio.lowlevel.checkpoint()
        shutil.rmtree(self._state_of(run_id), ignore_errors=True)

    async def carry_on(self, run_id: str, round_number: int, update: BlobId, *, used: bool) -> None:
        await trio.lowlevel.checkpoint()
        rename = use_named if used else name_next
        rename(self._state_of(run_id), round_number, update)

    async def offered_rounds(self, run_id: str) -> Sequence[int]:
        await trio.lowlevel.checkpoint()
        return offered_rounds(self._state_of(run_id))

    def _state_of(self, run_id: str) -> Path:
        return self._directory / blake2b(run_id.encode(), digest_size=16).hexdigest()


class InProcessSession:
    """A task loaded into this process. A call that is cancelled has done its work all the same, unless it was to be
    trained together with others."""

    def __init__(
        self,
        spec: TaskSpec,
        state: Path,
        say: Say,
        samples_per_s: float,
        together: BatchedTraining | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._state = state
        self._tell = say
        self._keep = keep
        self._staging = state.with_name(f"{state.name}-artifacts")
        self._artifacts: list[TaskOutput] = []  # that the call under way has made
        self._samples_per_s = samples_per_s
        self._epochs = float(spec.hyperparameters.get("epochs", 1))
        self._progress = Progress()
        with captured_in_process(say, self._progress):
            loaded = Companion(spec, state, self._say, self._progress, staging=self._staging, clock=trio.current_time)
        self._loaded: LoadedTask | None = loaded
        self._seat = together.seat(loaded) if together is not None else None

    async def initial_model(self) -> InitialModel:
        made = await self._run(0, LoadedTask.initial_model)
        await trio.lowlevel.checkpoint()
        return made

    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        request = self._seat.training(round_number, schema, model) if self._seat is not None else None
        trained = await self._together(request, self._epochs)

        def train(loaded: LoadedTask) -> Trained:
            return loaded.train(round_number, schema, model, server_state=server_state)

        if trained is None:
            trained = await self._run(round_number, train)
            if request is None:
                await trio.sleep(self._epochs * trained.samples / self._samples_per_s)
        if coded is not None and isinstance(trained.update, bytes) and len(trained.update) >= EARLY_BYTES_MIN:
            coded.begin(len(trained.update), CodedInMemory(trained.update))
            coded.grew(len(trained.update))
        return TrainResult(trained.update, trained.samples, trained.metrics, trained.steps)

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult | None:
        request = self._seat.evaluation(round_number, schema, model) if self._seat is not None else None
        result = await self._together(request, 1 / EVALUATION_SPEEDUP)
        if result is None:
            result = await self._run(round_number, lambda loaded: loaded.evaluate(round_number, schema, model))
            if request is None:
                samples = 0 if result is None else result.samples
                await trio.sleep(samples / self._samples_per_s / EVALUATION_SPEEDUP)
        return result

    async def predict(self, round_number: int, schema: bytes, model: bytes | Path) -> Predictions:
        file = self._state / PREDICTIONS_FILE
        rows = await self._run(round_number, lambda loaded: loaded.predict(round_number, schema, model, file))
        await trio.sleep(rows / self._samples_per_s / EVALUATION_SPEEDUP)
        return Predictions(file, rows)

    async def _together(self, request: Request[T] | None, passes: float) -> T | None:
        """What many nodes want is computed when the first of it is due. None when it has to be done alone."""
        if request is None:
            return None
        try:
            await trio.sleep(passes * request.samples / self._samples_per_s)
            return request.result()
        finally:
            request.withdraw()

    async def close(self) -> None:
        (self._state / PREDICTIONS_FILE).unlink(missing_ok=True)
        self._loaded = self._seat = None
        shutil.rmtree(self._staging, ignore_errors=True)
        await trio.lowlevel.checkpoint()

    def _say(self, output: TaskOutput) -> None:
        if output.kind == "artifact":
            self._artifacts.append(output)
        else:
            self._tell(output)

    async def keep_artifacts(self) -> None:
        """Have what the task has made taken in; its code cannot wait for that."""
        artifacts, self._artifacts = self._artifacts, []
        if self._keep is not None:
            for artifact in artifacts:
                await self._keep(artifact, self._staging)
        discard(self._staging, [artifact.staged.file for artifact in artifacts if artifact.staged is not None])

    async def _run(self, round_number: int, work: Callable[[LoadedTask], T]) -> T:
        if self._loaded is None:
            raise TrainerFailed("The session is closed", remedy="open a new one")
        self._progress.begin(self._progress.call + 1, round_number)
        try:
            with captured_in_process(self._say, self._progress):
                return work(self._loaded)
        finally:
            await self.keep_artifacts()
