"""Clients of a node's local API, for scripts and screens. docs/api.md describes every endpoint and its answer.

Use them as `fednode.Client` and `fednode.AsyncClient`. Nothing here imports more than the standard library until an
`AsyncClient` is made.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fednode_endpoints import (
    LONG_DEADLINE_S,
    REQUEST_DEADLINE_S,
    Endpoints,
    Json,
    absolute,
    given,
    path_of,
    socket_path,
)

if TYPE_CHECKING:
    import httpx

SILENCE_S = 20.0  # an event stream says "alive" every 5 s; so long without a word means that the node hangs
CHUNK_BYTES = 1024 * 1024  # of a model, at a time


class ClientError(Exception):
    """A node could not be asked, or said no: what happened and why, then what to do. `code` is for programs."""

    code = "failed"

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. To fix: {remedy}.")
        self.what = what
        self.remedy = remedy


class NodeNotRunning(ClientError):
    """No node answers at this home's socket."""

    code = "not-running"

    def __init__(self, home: Path) -> None:
        record = home / "record.duckdb"
        remedy = "start it with fednode start --detach, or name another --home"
        if record.exists():
            remedy += f"; its record can be read meanwhile, as by fednode run list --store {record}"
        super().__init__(f"No node is running at {home}", remedy=remedy)


class RequestRefused(ClientError):
    """The node said no. `status` 400: malformed, 404: no such thing, 409: a rule refuses it, 503: not now."""

    def __init__(self, status: int, answer: bytes) -> None:
        error = {"code": "no-json", "what": f"The answer is not fednode's (HTTP {status})", "remedy": "see its log"}
        with suppress(ValueError, KeyError):
            error |= json.loads(answer)["error"]
        super().__init__(error["what"], remedy=error["remedy"])
        self.code, self.status, self.details = error["code"], status, error


class Client(Endpoints[Json]):
    """A node's local API for scripts; every call blocks. Raises ClientError, NodeNotRunning, RequestRefused."""

    def _call(self, method: str, path: str, body: Json | None = None, deadline_s: float = REQUEST_DEADLINE_S) -> Json:
        with self._exchange(method, path, deadline_s, body) as response:
            return dict(json.loads(response.read()))

    def all_logs(self, run: str, **filters: object) -> Iterator[Json]:
        """What a run's nodes say, those that share it, as docs/api.md has it; with `follow` until the run is over."""
        return self.events(path_of("runs", run, "logs", "all", **filters))

    def events(self, path: str = "/v1/events") -> Iterator[Json]:
        """A snapshot, then what changes, until the node stops."""
        with self._exchange("GET", path, SILENCE_S) as response:
            while line := response.readline():
                yield json.loads(line)

    def model(self, run: str, round_number: int | None = None) -> Iterator[bytes]:
        """A checkpoint as the pieces of a safetensors file, the newest without `round_number`."""
        with self._exchange("GET", path_of("runs", run, "model", round=round_number), LONG_DEADLINE_S) as response:
            yield from _pieces(response)

    def model_file(self, model: str) -> Generator[bytes, None, None]:
        """A model, named as for `model_info`, as the pieces of a safetensors file."""
        with self._exchange("GET", path_of("models", model, "file"), LONG_DEADLINE_S) as response:
            yield from _pieces(response)

    def predict(
        self,
        model: str,
        *,
        path: str | Path | None = None,
        task: str | Path | None = None,
        hear: Callable[[Json], object] | None = None,
        write: Callable[[bytes], object] | None = None,
        **wanted: object,
    ) -> Json:
        """Judge a model on data of the node's: what lies at `path`, or `data`, a name; docs/api.md has what else may be
        `wanted`. `task` is where the task's file lies, if the node does not know it yet.

        `hear` is given what the task says meanwhile, `write` the pieces of the predictions' .npz file, which are made
        only where it is given."""
        body = given({**wanted, "path": absolute(path), "task": absolute(task), "predict": write is not None})
        with self._exchange("POST", path_of("models", model, "predict"), SILENCE_S, body) as response:
            while line := response.readline():
                event: Json = json.loads(line)
                if event["type"] == "done":
                    while write is not None and (piece := response.read(CHUNK_BYTES)):
                        write(piece)
                    return event
                if event["type"] == "error":
                    raise RequestRefused(event["error"]["status"], line)
                if hear is not None and event["type"] == "said":
                    hear(event)
        raise _went_away(self.home)

    def artifact(self, run: str, node: str, name: str) -> Iterator[bytes]:
        """An artifact, in pieces."""
        with self._exchange("GET", path_of("runs", run, "artifacts", node, name), LONG_DEADLINE_S) as response:
            yield from _pieces(response)

    def prometheus(self) -> str:
        """Everything that the node counts, as Prometheus reads it."""
        with self._exchange("GET", "/metrics", REQUEST_DEADLINE_S) as response:
            return response.read().decode()

    @contextmanager
    def _exchange(
        self, method: str, path: str, deadline_s: float, body: Json | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("node", timeout=deadline_s)
        try:
            connection.sock = self._connected(deadline_s)
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            if response.status >= 400:
                raise RequestRefused(response.status, response.read())
            yield response
        except TimeoutError:
            raise _silent(self.home) from None
        except (ConnectionError, http.client.HTTPException):
            raise _went_away(self.home) from None
        finally:
            connection.close()

    def _connected(self, deadline_s: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(deadline_s)
        try:
            connection.connect(str(socket_path(self.home)))
        except OSError as error:  # no such file, nobody listens, or a path too long for any node to have bound
            connection.close()
            raise (_not_ours(error) if isinstance(error, PermissionError) else NodeNotRunning(self.home)) from None
        return connection


class AsyncClient(Endpoints[Coroutine[Any, Any, Json]]):
    """The same under trio or asyncio. Use it as an async context manager."""

    def __init__(self, home: str | Path | None = None) -> None:
        super().__init__(home)
        import httpx  # here, for it takes longer to import than a command takes to run

        transport = httpx.AsyncHTTPTransport(uds=str(socket_path(self.home)))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://node")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, body: Json | None = None, deadline_s: float = REQUEST_DEADLINE_S
    ) -> Json:
        async with self._exchange(method, path, deadline_s, body) as response:
            return dict(json.loads(await response.aread()))

    def all_logs(self, run: str, **filters: object) -> AsyncIterator[Json]:
        """What a run's nodes say, those that share it, as docs/api.md has it. Close it when you leave early."""
        return self.events(path_of("runs", run, "logs", "all", **filters))

    async def events(self, path: str = "/v1/events") -> AsyncIterator[Json]:
        """A snapshot, then what changes, until the node stops. Close it (contextlib.aclosing) when you leave early."""
        async with self._exchange("GET", path, SILENCE_S) as response:
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def model(self, run: str, round_number: int | None = None) -> AsyncIterator[bytes]:
        """A checkpoint as the pieces of a safetensors file, the newest without `round_number`."""
        async with self._exchange(
            "GET", path_of("runs", run, "model", round=round_number), LONG_DEADLINE_S
        ) as response:
            async for chunk in response.aiter_bytes(CHUNK_BYTES):
                yield chunk

    async def prometheus(self) -> str:
        """Everything that the node counts, as Prometheus reads it."""
        async with self._exchange("GET", "/metrics", REQUEST_DEADLINE_S) as response:
            return (await response.aread()).decode()

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, deadline_s: float, body: Json | None = None
    ) -> AsyncIterator[httpx.Response]:
        import httpx

        try:
            async with self._http.stream(method, path, json=body, timeout=deadline_s) as response:
                if response.status_code >= 400:
                    raise RequestRefused(response.status_code, await response.aread())
                yield response
        except httpx.ConnectError:
            raise NodeNotRunning(self.home) from None
        except httpx.TimeoutException:
            raise _silent(self.home) from None
        except httpx.TransportError:
            raise _went_away(self.home) from None


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """All of an answer's bytes. Raises IncompleteRead where it breaks off, which http.client itself lets pass."""
    while chunk := response.read(CHUNK_BYTES):
        yield chunk
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _silent(home: Path) -> ClientError:
    return ClientError(f"The node at {home} does not answer", remedy="see its log; fednode stop, or end its process")


def _went_away(home: Path) -> ClientError:
    return ClientError(f"The node at {home} went away while it answered", remedy="see its log, and start it again")


def _not_ours(error: OSError) -> ClientError:
    return ClientError(
        f"The node's socket may not be opened ({error})", remedy="ask as the user who runs the node, or name a --home"
    )
