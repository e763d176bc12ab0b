"""The local API's endpoints for models: the registry, models as files, evaluation and predictions."""

import math
from contextlib import suppress
from typing import IO, Annotated, Any, Literal

import trio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, error_body, named, route
from node.api.http.bodies import Body, NameText, PathText, Query, body_of, query_of
from node.api.http.json import json_bytes
from node.api.http.streams import ALIVE_S, ModelStream, SendPiece, Streamed
from node.api.service.service import Judged, Judging, NodeService, Wanted
from node.seams import TaskOutput, TrainerFailed
from protocol.errors import FednodeError

MODEL_CHARACTERS_MAX = 300  # a run's name and a round, or a registered name and an alias
LINES_WAITING_MAX = 1000  # of what a task says, until the reader takes them; more are left out
PIECE_BYTES = 1024 * 1024  # of predictions, sent at a time

ModelText = Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS_MAX)]


class Of(Query):
    of: ModelText | None = None


class Tag(Body):
    name: ModelText
    alias: Annotated[str, Field(max_length=MODEL_CHARACTERS_MAX)] = ""


class Predict(Body):
    data: NameText | None = None
    path: PathText | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    task: PathText | None = None
    rows: Literal["held-out", "all"] | None = None
    evaluate: bool = True
    predict: bool = False


class _Handlers:
    """One method per endpoint, in the order of docs/api.md."""

    def __init__(self, service: NodeService) -> None:
        self._service = service

    async def listed(self, request: Request) -> Response:
        return answer({"models": await self._service.registry.listed(query_of(request, Of).of)})

    async def show(self, request: Request) -> Response:
        return answer(await self._service.registry.show(named(request, "model")))

    async def schema(self, request: Request) -> Response:
        return answer(await self._service.registry.schema(named(request, "model")))

    async def file(self, request: Request) -> Response:
        return ModelStream(await self._service.registry.file(named(request, "model")))

    async def tag(self, request: Request) -> Response:
        body = await body_of(request, Tag)
        return answer(await self._service.registry.tag(named(request, "model"), body.name, body.alias))

    async def untag(self, request: Request) -> Response:
        await self._service.registry.untag(named(request, "name"), named(request, "alias"))
        return answer({})

    async def remove(self, request: Request) -> Response:
        return answer({"versions": await self._service.registry.remove(named(request, "name"))})

    async def predict(self, request: Request) -> Response:
        wanted = Wanted(**(await body_of(request, Predict)).model_dump())
        return PredictionStream(await self._service.predictor.prepare(named(request, "model"), wanted))


def model_routes(service: NodeService) -> list[Route]:
    handlers = _Handlers(service)
    return [
        route("GET", "/v1/models", handlers.listed),
        route("GET", "/v1/models/{model}", handlers.show),
        route("GET", "/v1/models/{model}/schema", handlers.schema),
        route("GET", "/v1/models/{model}/file", handlers.file),
        route("POST", "/v1/models/{model}/tag", handlers.tag),
        route("POST", "/v1/models/{model}/predict", handlers.predict),
        route("DELETE", "/v1/models/{name}/aliases/{alias}", handlers.untag),
        route("DELETE", "/v1/models/{name}", handlers.remove),
    ]


class PredictionStream(Streamed):
    """Lines of JSON while a model is judged, the last of them `done` or `error`; after `done` the predictions' bytes.

    When its reader leaves, the judging is cancelled."""

    def __init__(self, judging: Judging) -> None:
        super().__init__("application/x-ndjson", {"Cache-Control": "no-store"})
        self._judging = judging
        self._judged: Judged | None = None
        self._failure: FednodeError | None = None

    async def write(self, send: SendPiece) -> None:
        said, heard = trio.open_memory_channel[dict[str, Any]](LINES_WAITING_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._judge, said)
                await _pass_on(heard, send)
            if self._judged is None:
                assert self._failure is not None
                await send(_line({"type": "error", "error": _told(self._failure)}))
            else:
                await _send_outcome(self._judged, send)
        finally:
            if self._judged is not None and self._judged.predictions is not None:
                self._judged.predictions.close()

    async def _judge(self, said: trio.MemorySendChannel[dict[str, Any]]) -> None:
        def say(output: TaskOutput) -> None:
            line = {"type": "said", "kind": output.kind, "level": output.level, "text": output.text}
            with suppress(trio.WouldBlock):  # a reader that does not keep up misses lines, and holds nothing up
                if output.text:
                    said.send_nowait(line)

        with said:
            try:
                self._judged = await self._judging.run(say)
            except FednodeError as error:
                self._failure = error


async def _pass_on(heard: trio.MemoryReceiveChannel[dict[str, Any]], send: SendPiece) -> None:
    """Send every line as it comes, and `alive` when none does, until there are no more."""
    while True:
        line = {"type": "alive"}
        with trio.move_on_after(ALIVE_S):
            try:
                line = await heard.receive()
            except trio.EndOfChannel:
                return
        await send(_line(line))


async def _send_outcome(judged: Judged, send: SendPiece) -> None:
    file = judged.predictions
    size = 0 if file is None else await trio.to_thread.run_sync(_size_of, file)
    await send(_line({"type": "done", **judged.told, "predictions_bytes": size}))
    if file is not None:
        for _ in range(math.ceil(size / PIECE_BYTES)):
            await send(await trio.to_thread.run_sync(file.read, PIECE_BYTES))


def _size_of(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _told(error: FednodeError) -> dict[str, Any]:
    """The error, with the task's traceback: whoever asks is its owner."""
    traceback = error.traceback if isinstance(error, TrainerFailed) else ""
    return {**error_body(error), **({"traceback": traceback} if traceback else {})}


def _line(event: dict[str, Any]) -> bytes:
    return json_bytes(event) + b"\n"
