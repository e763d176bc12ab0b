"""One run's task in a worker process, as the node calls it: arguments and answers, and the files for large ones.

A task that raises leaves its session usable. One that crashes, is killed, hangs or garbles the pipe ends its session:
every later call says why, and a new session can be opened.
"""

import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.seams import CodedUpdate, EvaluateResult, InitialModel, Predictions, TaskSpec, TrainResult
from node.system.names import known_usage
from node.training.coded_file import OpenCodedFile
from node.training.staged_files import move_left, open_left, read_left
from node.training.worker_attended import AttendedWorker
from node.training.worker_checks import clean_metrics, count, number
from node.training.worker_frames import INLINE_BYTES_MAX, PREDICTIONS_FILE, from_field, to_field
from protocol.errors import FednodeError

Blocking = Callable[[Callable[[], Any]], Awaitable[Any]]


class WorkerSession:
    """`attend` must run all the time. `work` is the directory of this session alone, and goes with it."""

    def __init__(self, worker: AttendedWorker, work: Path, blocking: Blocking) -> None:
        self._worker = worker
        self._work = work
        self._blocking = blocking
        self._codec = self._method = ""
        self._taken: Path | None = None  # a folder that no worker was told of, for what is taken out of its own
        self._gone = trio.Event()

    async def load(self, spec: TaskSpec, state: Path) -> None:
        """Have the worker load the task and its data; call it once, first. Raises TrainerFailed."""
        self._codec, self._method = spec.codec, spec.method
        await self._worker.call("open", spec=_plain(spec), state=str(state))

    async def initial_model(self) -> InitialModel:
        answer = await self._worker.call("initial_model")
        with self._sense():
            schema = await self._content(answer["schema"], "schema", _schema_bytes_max)
            model = await self._content(answer["model"], "model", partial(_model_bytes, schema))
        return InitialModel(schema, model)

    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        """A large update is a file that lasts until the next call."""
        given = await self._large(schema, model)
        given["server_state"] = await self._place(server_state, "server_state")
        following = None if coded is None else _Following(coded, partial(self._open_coded, schema))
        answer = await self._worker.call("train", following, round=round_number, **given)
        with self._sense():
            update = from_field(answer["update"], self._work / "update")
            if isinstance(update, Path):
                update = await self._blocking(partial(self._take_update, schema))
            samples, steps = count(answer["samples"]), count(answer["steps"])
            usage = known_usage(clean_metrics(answer["usage"]))
            return TrainResult(
                update, samples, clean_metrics(answer["metrics"]), steps, number(answer["encode_s"]), usage
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
                await self._blocking(self._tidy_up)
            self._gone.set()

    async def _large(self, schema: bytes, model: bytes | Path) -> dict[str, Any]:
        """Schema and base model for the worker: bytes, a path, or true for a file of this session's."""
        return {"schema": await self._field(schema, self._work / "schema"), "model": await self._place(model, "base")}

    async def _place(self, content: bytes | Path, name: str) -> Any:
        if isinstance(content, Path):
            return _absolute(content)
        return await self._field(content, self._work / name)

    async def _field(self, content: bytes, file: Path) -> Any:
        if len(content) <= INLINE_BYTES_MAX:  # not worth a thread
            return content
        try:
            return await self._blocking(partial(to_field, content, file))
        except OSError as error:
            self._worker.give_up(
                f"{file.name} cannot be written for the worker ({error})", "see that the disk has room"
            )
            raise self._worker.why() from error

    async def _content(self, field: Any, name: str, bytes_max: Callable[[], int]) -> bytes:
        """What `field` stands for, be it in the file `name`. `bytes_max` is called in a thread, where that is."""
        content = from_field(field, self._work / name)
        if isinstance(content, bytes):
            return content
        whole: bytes = await self._blocking(lambda: read_left(self._work, name, bytes_max()))
        return whole

    def _take_update(self, schema: bytes) -> Path:
        """The update that the worker left, out of its reach. Blocks."""
        bytes_max = _update_bytes(schema, self._codec, self._method)
        if self._taken is None:
            self._taken = Path(tempfile.mkdtemp(dir=self._work.parent))
        update = self._taken / "update"
        move_left(self._work, "update", bytes_max, update)
        return update

    def _open_coded(self, schema: bytes) -> tuple[int, OpenCodedFile]:
        """The update that the worker is writing, and its length when it is whole. Blocks."""
        size = _update_bytes(schema, self._codec, self._method)
        return size, OpenCodedFile(open_left(self._work, "update", size))

    def _tidy_up(self) -> None:
        for folder in (self._work, self._taken):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _sense(self) -> Iterator[None]:
        """Give the worker up when its answer makes no sense."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            self._worker.give_up(f"The worker's answer makes no sense ({error})", "keep task code off fednode's pipe")
            raise self._worker.why() from error
        except FednodeError as error:
            self._worker.give_up(
                f"What the worker left for the node cannot be used ({error.what})",
                "keep task code off the files that fednode writes",
            )
            raise self._worker.why() from error


class _Following:
    """Has somebody hear how far an update is coded, as the worker says, who may lie."""

    def __init__(self, coded: CodedUpdate, opened: Callable[[], tuple[int, OpenCodedFile]]) -> None:
        self._coded = coded
        self._opened = opened
        self._has_begun = False

    async def __call__(self, upto: int) -> None:
        if not self._has_begun:
            self._has_begun = True
            with suppress(FednodeError):  # what is wrong with the file shows when it is whole
                self._coded.begin(*await trio.to_thread.run_sync(self._opened))
        self._coded.grew(upto)


# What sizes follow from, with the numpy that it loads: in a thread, and only in nodes that have runs.
def _schema_bytes_max() -> int:
    from aggregation.tensors.schema import SCHEMA_BYTES_MAX

    return SCHEMA_BYTES_MAX


def _model_bytes(schema: bytes) -> int:
    from aggregation.tensors.schema import Schema

    return Schema.from_bytes(schema).model_bytes


def _update_bytes(schema: bytes, codec: str, method: str) -> int:
    from aggregation.codecs.registry import codec_named, difference_bytes
    from aggregation.scaffold import update_schema
    from aggregation.tensors.schema import Schema

    return difference_bytes(update_schema(Schema.from_bytes(schema), method), codec_named(codec))


def _plain(spec: TaskSpec) -> dict[str, Any]:
    """The spec in msgpack's types: mappings of any kind become dicts."""
    values = {entry.name: getattr(spec, entry.name) for entry in fields(spec)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def _absolute(path: Path) -> str:
    """For the worker, which has another working directory."""
    return os.path.abspath(path)
