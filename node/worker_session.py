"""One run's task in a worker process, as the node calls it: arguments and answers, and the files for large ones.

A task that raises leaves its session usable. One that crashes, is killed, hangs or garbles the pipe ends its session:
every later call says why, and a new session can be opened.
"""

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.seams import EvaluateResult, InitialModel, Predictions, TaskSpec, TrainResult
from node.system_names import known_usage
from node.worker_attended import AttendedWorker
from node.worker_checks import clean_metrics, count
from node.worker_frames import INLINE_BYTES_MAX, PREDICTIONS_FILE, from_field, to_field

Blocking = Callable[[Callable[[], Any]], Awaitable[Any]]


class WorkerSession:
    """`attend` must run all the time. `work` is the directory of this session alone, and goes with it."""

    def __init__(self, worker: AttendedWorker, work: Path, blocking: Blocking) -> None:
        self._worker = worker
        self._work = work
        self._blocking = blocking
        self._gone = trio.Event()

    async def load(self, spec: TaskSpec, state: Path) -> None:
        """Have the worker load the task and its data; call it once, first. Raises TrainerFailed."""
        await self._worker.call("open", spec=_plain(spec), state=str(state))

    async def initial_model(self) -> InitialModel:
        answer = await self._worker.call("initial_model")
        with self._sense():
            schema = await self._content(from_field(answer["schema"], self._work / "schema"))
            model = await self._content(from_field(answer["model"], self._work / "model"))
        return InitialModel(schema, model)

    async def train(self, round_number: int, schema: bytes, model: bytes | Path) -> TrainResult:
        """A large update is a file that lasts until the next call."""
        answer = await self._worker.call("train", round=round_number, **await self._large(schema, model))
        with self._sense():
            update = from_field(answer["update"], self._work / "update")
            if isinstance(update, Path):
                await self._blocking(update.stat)  # it may have lied
            samples, steps = count(answer["samples"]), count(answer["steps"])
            usage = known_usage(clean_metrics(answer["usage"]))
            return TrainResult(
                update, samples, clean_metrics(answer["metrics"]), steps, float(answer["encode_s"]), usage
            )

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult | None:
        answer = await self._worker.call("evaluate", round=round_number, **await self._large(schema, model))
        with self._sense():
            if "samples" not in answer:
                return None
            return EvaluateResult(count(answer["samples"]), clean_metrics(answer["metrics"]))

    async def predict(self, round_number: int, schema: bytes, model: bytes | Path) -> Predictions:
        answer = await self._worker.call("predict", round=round_number, **await self._large(schema, model))
        with self._sense():
            return Predictions(self._work / PREDICTIONS_FILE, count(answer["rows"]))

    async def close(self) -> None:
        self._worker.give_up("The session is closed", "open a new one")
        await self._gone.wait()

    async def attend(self) -> None:
        """Attend to the worker until it has ended; then tidy up. Run it in the background all the time."""
        try:
            await self._worker.attend()
        finally:
            with trio.CancelScope(shield=True):
                await self._blocking(partial(shutil.rmtree, self._work, ignore_errors=True))
            self._gone.set()

    async def _large(self, schema: bytes, model: bytes | Path) -> dict[str, Any]:
        """Schema and base model for the worker: bytes, a path, or true for a file of this session's."""
        if isinstance(model, Path):
            field: Any = _absolute(model)
        else:
            field = await self._field(model, self._work / "base")
        return {"schema": await self._field(schema, self._work / "schema"), "model": field}

    async def _field(self, content: bytes, file: Path) -> Any:
        if len(content) <= INLINE_BYTES_MAX:  # not worth a thread
            return content
        return await self._blocking(partial(to_field, content, file))

    async def _content(self, content: bytes | Path) -> bytes:
        if isinstance(content, bytes):
            return content
        whole: bytes = await self._blocking(content.read_bytes)
        return whole

    @contextmanager
    def _sense(self) -> Iterator[None]:
        """Give the worker up when its answer makes no sense."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            self._worker.give_up(f"The worker's answer makes no sense ({error})", "keep task code off fednode's pipe")
            raise self._worker.why() from error


def _plain(spec: TaskSpec) -> dict[str, Any]:
    """The spec in msgpack's types: mappings of any kind become dicts."""
    values = {entry.name: getattr(spec, entry.name) for entry in fields(spec)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def _absolute(path: Path) -> str:
    """For the worker, which has another working directory."""
    return os.path.abspath(path)
