"""Answers that are sent in pieces: the event stream, models, artifacts, long lists.

A reader may leave at any time, or stop reading without leaving. Neither may hold up the node: when the reader leaves
the source is closed, and a source that outruns its reader is held at one piece.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from node.api.http.json import json_bytes, json_pieces
from node.api.service.service import ModelFile

SendPiece = Callable[[bytes], Awaitable[None]]

ALIVE_S = 5.0  # between two lines of an event stream at the most: readers can tell a quiet node from a hung one
BYE_DEADLINE_S = 0.5  # for a reader to take the last line when the node stops
_BYE: list[dict[str, Any]] = [{"type": "bye"}]


class Streamed(Response):
    """An answer that `write` sends in pieces. Ends early, with `write` cancelled, when its reader leaves."""

    def __init__(self, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(media_type=media_type, headers=dict(headers))
        if "Content-Length" not in headers:
            del self.headers["content-length"]  # Starlette has counted an empty body

    async def write(self, send: SendPiece) -> None:
        """Send everything."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_whole = False

        async def send_piece(piece: bytes) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            await self.write(send_piece)
            is_whole = True
            nursery.cancel_scope.cancel()
        if is_whole:  # here, for the server says that the reader has gone before it has closed the connection itself
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class JsonStream(Streamed):
    """An answer with long lists in it. It is encoded on its way, with a turn for everybody else after each piece."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        super().__init__("application/json", {})
        self._value = value

    async def write(self, send: SendPiece) -> None:
        for piece in json_pieces(self._value):
            await send(piece)
            await trio.lowlevel.checkpoint()


class PiecesStream(Streamed):
    """A file of `size` bytes, in pieces."""

    def __init__(self, pieces: AsyncIterator[bytes], size: int, headers: Mapping[str, str]) -> None:
        super().__init__("application/octet-stream", {"Content-Length": str(size), **headers})
        self._pieces = pieces

    async def write(self, send: SendPiece) -> None:
        try:
            async for piece in self._pieces:
                await send(piece)
        finally:
            await _close(self._pieces)


class ModelStream(PiecesStream):
    """A checkpoint as a safetensors file."""

    def __init__(self, model: ModelFile) -> None:
        headers = {"X-Fednode-Round": str(model.round), "X-Fednode-Model": model.model}
        super().__init__(model.chunks, model.size, headers)


class EventStream(Streamed):
    """Events as lines of JSON, a batch at a time; `alive` when there are none, `bye` when `stopping` is set."""

    def __init__(self, events: AsyncIterator[list[dict[str, Any]]], stopping: trio.Event) -> None:
        super().__init__("application/x-ndjson", {"Cache-Control": "no-store"})
        self._events = events
        self._stopping = stopping

    async def write(self, send: SendPiece) -> None:
        batches, incoming = trio.open_memory_channel[list[dict[str, Any]]](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, batches.clone())
            nursery.start_soon(self._end, batches, nursery.cancel_scope)
            while True:
                batch = [{"type": "alive"}]
                with trio.move_on_after(ALIVE_S):
                    batch = await incoming.receive()
                await send(b"".join(json_bytes(event) + b"\n" for event in batch))
                if batch and batch[-1].get("type") == "bye":  # ours, or the service's own
                    break
            nursery.cancel_scope.cancel()

    async def _pump(self, batches: trio.MemorySendChannel[list[dict[str, Any]]]) -> None:
        try:
            async for batch in self._events:
                await batches.send(batch)
            await batches.send(_BYE)
        finally:
            await _close(self._events)

    async def _end(self, batches: trio.MemorySendChannel[list[dict[str, Any]]], scope: trio.CancelScope) -> None:
        await self._stopping.wait()
        with trio.move_on_after(BYE_DEADLINE_S):
            await batches.send(_BYE)
        await trio.sleep(BYE_DEADLINE_S)  # a writer whose reader takes the line ends us before that
        scope.cancel()


async def _close(iterator: AsyncIterator[Any]) -> None:
    """End a subscription, also while we are being cancelled."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        with trio.CancelScope(shield=True):
            await close()
