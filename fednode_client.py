"""Clients of a node's local API, for scripts and screens. docs/api.md describes every endpoint and its answer.

Use them as `fednode.Client` and `fednode.AsyncClient`. Nothing here imports more than the standard library until an
`AsyncClient` is made.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")
Json = dict[str, Any]
REQUEST_DEADLINE_S = 30.0  # the node answers from memory or by one query; longer means that it hangs
LONG_DEADLINE_S = 600.0  # joining waits for a member, adding data reads all of it, starting a run makes the model
SILENCE_S = 20.0  # an event stream says "alive" every 5 s; so long without a word means that the node hangs
CHUNK_BYTES = 1024 * 1024  # of a model, at a time


class ClientError(Exception):
    """A node could not be asked, or said no: what happened and why, then what to do. `code` is for programs."""

    code = "failed"

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. To fix: {remedy}.")
        self.what = what
        self.remedy = remedy


_START_IT = "start it with fednode start, name another --home, or look into its record with --store FILE"


class NodeNotRunning(ClientError):
    """No node answers at this home's socket."""

    code = "not-running"

    def __init__(self, home: Path) -> None:
        super().__init__(f"No node is running at {home}", remedy=_START_IT)


class RequestRefused(ClientError):
    """The node said no. `status` 400: malformed, 404: no such thing, 409: a rule refuses it, 503: not now."""

    def __init__(self, status: int, answer: bytes) -> None:
        error = {"code": "no-json", "what": f"The answer is not fednode's (HTTP {status})", "remedy": "see its log"}
        with suppress(ValueError, KeyError):
            error |= json.loads(answer)["error"]
        super().__init__(error["what"], remedy=error["remedy"])
        self.code, self.status, self.details = error["code"], status, error


def home_path(home: str | Path | None = None) -> Path:
    """Where a node keeps everything: `home`, else FEDNODE_HOME, else this user's data directory."""
    if chosen := home or os.environ.get("FEDNODE_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("fednode", appauthor=False)


def socket_path(home: Path) -> Path:
    """The socket of the node at `home`: in it, or where `api.path` says when that path would be too long."""
    try:
        return Path((home / "api.path").read_text().strip())
    except OSError:
        return home / "api.sock"


class _Endpoints(Generic[Answer]):
    """One method per endpoint, the same for both clients."""

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = home_path(home)

    def _call(self, method: str, path: str, body: Json | None = None, deadline_s: float = REQUEST_DEADLINE_S) -> Answer:
        raise NotImplementedError

    def _get(self, *parts: str, **query: object) -> Answer:
        return self._call("GET", _path(*parts, **query))

    def _post(self, *parts: str, deadline_s: float = REQUEST_DEADLINE_S, **body: object) -> Answer:
        return self._call("POST", _path(*parts), _given(body), deadline_s)

    def status(self) -> Answer:
        return self._get("status")

    def stop(self) -> Answer:
        return self._post("stop")

    def peers(self) -> Answer:
        return self._get("peers")

    def groups(self) -> Answer:
        return self._get("groups")

    def group(self, group: str) -> Answer:
        return self._get("groups", group)

    def create_group(self, name: str) -> Answer:
        return self._post("groups", name=name)

    def invite(self, group: str | None = None, role: str = "member", uses: int = 1, expires_s: int = 604_800) -> Answer:
        return self._post("invitations", group=group, role=role, uses=uses, expires_s=expires_s)

    def join(self, token: str) -> Answer:
        return self._post("join", token=token, deadline_s=LONG_DEADLINE_S)

    def data(self) -> Answer:
        return self._get("data")

    def add_data(self, name: str, path: str | Path, options: Mapping[str, object] | None = None) -> Answer:
        return self._post("data", name=name, path=_absolute(path), options=options, deadline_s=LONG_DEADLINE_S)

    def data_info(self, name: str) -> Answer:
        return self._call("GET", _path("data", name), deadline_s=LONG_DEADLINE_S)

    def remove_data(self, name: str) -> Answer:
        return self._call("DELETE", _path("data", name))

    def runs(self, limit: int = 100, before: str | None = None) -> Answer:
        return self._get("runs", limit=limit, before=before)

    def run(self, run: str) -> Answer:
        return self._get("runs", run)

    def start_run(self, config: str, source: str | Path | None = None, **options: object) -> Answer:
        """Propose the run of the TOML text `config`; a relative task.path is looked for beside the file `source`.
        Options: `group`, and `overrides`, dotted keys that count instead of the text's."""
        return self._post("runs", config=config, source=_absolute(source), deadline_s=LONG_DEADLINE_S, **options)

    def accept(self, run: str, data: str | None = None, task: str | Path | None = None) -> Answer:
        return self._post("runs", run, "accept", data=data, task=_absolute(task))

    def decline(self, run: str, reason: str | None = None) -> Answer:
        return self._post("runs", run, "decline", reason=reason)

    def stop_run(self, run: str, reason: str | None = None) -> Answer:
        return self._post("runs", run, "stop", reason=reason)

    def resume_run(self, run: str) -> Answer:
        """Let a stopped run go on from its newest checkpoint."""
        return self._post("runs", run, "resume")

    def extend_run(self, run: str, rounds: int) -> Answer:
        """Let a run last so many rounds more, also one that has finished."""
        return self._post("runs", run, "extend", rounds=rounds)

    def policy(self) -> Answer:
        return self._get("policy")

    def set_policy(self, rules: Sequence[str] | None = None, logs: str | None = None) -> Answer:
        return self._call("PUT", _path("policy"), _given({"rules": rules, "logs": logs}))

    def metrics(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "metrics", **filters)

    def rounds(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "rounds", **filters)

    def spans(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "spans", **filters)

    def system(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "system", **filters)

    def system_summary(self, run: str, **filters: object) -> Answer:
        return self._get("runs", run, "system", "summary", **filters)

    def artifacts(self, run: str) -> Answer:
        """What this node's task has made in a run and kept; `Client.artifact` gives one."""
        return self._get("runs", run, "artifacts")

    def logs(self, run: str | None = None, **filters: object) -> Answer:
        return self._get(*("runs", run) if run else (), "logs", **filters)

    def models(self, of: str | None = None) -> Answer:
        """The registered models; or the versions of the name `of`, and the models of that run."""
        return self._get("models", of=of)

    def model_info(self, model: str) -> Answer:
        """A model by RUN, RUN:ROUND, NAME, NAME@ALIAS, NAME:VERSION or its hash, with its lineage and evaluations."""
        return self._get("models", model)

    def model_schema(self, model: str) -> Answer:
        return self._get("models", model, "schema")

    def tag_model(self, model: str, name: str, alias: str = "") -> Answer:
        """Make a model a version of the registered `name`, and let `alias` stand for it."""
        return self._post("models", model, "tag", name=name, alias=alias)

    def untag_model(self, name: str, alias: str) -> Answer:
        return self._call("DELETE", _path("models", name, "aliases", alias))

    def remove_model(self, name: str) -> Answer:
        """Take a name with all its versions out of the registry."""
        return self._call("DELETE", _path("models", name))

    def sql(self, statement: str, rows_max: int = 10_000) -> Answer:
        return self._post("sql", statement=statement, rows_max=rows_max, deadline_s=LONG_DEADLINE_S)


class Client(_Endpoints[Json]):
    """A node's local API for scripts; every call blocks. Raises ClientError, NodeNotRunning, RequestRefused."""

    def _call(self, method: str, path: str, body: Json | None = None, deadline_s: float = REQUEST_DEADLINE_S) -> Json:
        with self._exchange(method, path, deadline_s, body) as response:
            return dict(json.loads(response.read()))

    def all_logs(self, run: str, **filters: object) -> Iterator[Json]:
        """What a run's nodes say, those that share it, as docs/api.md has it; with `follow` until the run is over."""
        return self.events(_path("runs", run, "logs", "all", **filters))

    def events(self, path: str = "/v1/events") -> Iterator[Json]:
        """A snapshot, then what changes, until the node stops."""
        with self._exchange("GET", path, SILENCE_S) as response:
            while line := response.readline():
                yield json.loads(line)

    def model(self, run: str, round_number: int | None = None) -> Iterator[bytes]:
        """A checkpoint as the pieces of a safetensors file, the newest without `round_number`."""
        with self._exchange("GET", _path("runs", run, "model", round=round_number), LONG_DEADLINE_S) as response:
            yield from _pieces(response)

    def model_file(self, model: str) -> Generator[bytes, None, None]:
        """A model, named as for `model_info`, as the pieces of a safetensors file."""
        with self._exchange("GET", _path("models", model, "file"), LONG_DEADLINE_S) as response:
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
        body = _given({**wanted, "path": _absolute(path), "task": _absolute(task), "predict": write is not None})
        with self._exchange("POST", _path("models", model, "predict"), SILENCE_S, body) as response:
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
        with self._exchange("GET", _path("runs", run, "artifacts", node, name), LONG_DEADLINE_S) as response:
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


class AsyncClient(_Endpoints[Coroutine[Any, Any, Json]]):
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

    async def events(self) -> AsyncIterator[Json]:
        """A snapshot, then what changes, until the node stops. Close it (contextlib.aclosing) when you leave early."""
        async with self._exchange("GET", "/v1/events", SILENCE_S) as response:
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def model(self, run: str, round_number: int | None = None) -> AsyncIterator[bytes]:
        """A checkpoint as the pieces of a safetensors file, the newest without `round_number`."""
        async with self._exchange("GET", _path("runs", run, "model", round=round_number), LONG_DEADLINE_S) as response:
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


def _path(*parts: str, **query: object) -> str:
    text = "/v1/" + "/".join(quote(part, safe="") for part in parts)
    return f"{text}?{urlencode(_given(query))}" if _given(query) else text


def _given(options: Json) -> Json:
    return {key: value for key, value in options.items() if value is not None}


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())
