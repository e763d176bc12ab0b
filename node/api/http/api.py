"""The node's local API over HTTP: paths, answers and errors as docs/api.md has them. What is answered is the service's.

It is served on a Unix socket of mode 0600. Who may open the socket may do everything; there is no other check.
"""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypercorn.trio
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from node.api.http.answers import REFUSED, answer, error_answer, named, route
from node.api.http.artifacts import artifact_routes
from node.api.http.audit import audit_routes
from node.api.http.blobs import blob_routes
from node.api.http.bodies import (
    Accept,
    AddData,
    Because,
    CreateGroup,
    Extend,
    Invite,
    Join,
    MetricsText,
    ModelQuery,
    Nothing,
    RoundsQuery,
    SetPolicy,
    Sql,
    StartRun,
    body_of,
    query_of,
)
from node.api.http.curves import curve_routes
from node.api.http.devices import device_routes
from node.api.http.doctor import doctor_routes
from node.api.http.inbox import inbox_routes
from node.api.http.logs import log_routes
from node.api.http.members import member_routes
from node.api.http.models import model_routes
from node.api.http.nodes import node_routes
from node.api.http.proposals import proposal_routes
from node.api.http.run_list import run_list_routes
from node.api.http.store import store_routes
from node.api.http.streams import EventStream, ModelStream
from node.api.http.system import system_routes
from node.api.service.service import MetricsQuery, NodeService, NotFound
from protocol.errors import Refused

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # type checkers see trio through stubs that lack it

GRACE_S = 1.0  # for answers on their way when the node stops


class _Handlers:
    """One method per endpoint, in the order of docs/api.md."""

    def __init__(self, service: NodeService, stopping: trio.Event) -> None:
        self.service = service
        self.stopping = stopping

    async def status(self, request: Request) -> Response:
        return answer(await self.service.status())

    async def stop(self, request: Request) -> Response:
        await body_of(request, Nothing)
        self.stopping.set()
        return answer({})

    async def peers(self, request: Request) -> Response:
        return answer({"peers": await self.service.peers()})

    async def prometheus(self, request: Request) -> Response:
        return Response(await self.service.prometheus(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def groups(self, request: Request) -> Response:
        return answer({"groups": await self.service.groups()})

    async def create_group(self, request: Request) -> Response:
        body = await body_of(request, CreateGroup)
        return answer(await self.service.create_group(body.name))

    async def group(self, request: Request) -> Response:
        return answer(await self.service.group(named(request, "group")))

    async def invite(self, request: Request) -> Response:
        body = await body_of(request, Invite)
        return answer(
            await self.service.invite(body.group, body.role, body.uses, body.expires_s, body.addresses, qr=body.qr)
        )

    async def join(self, request: Request) -> Response:
        body = await body_of(request, Join)
        try:
            return answer(await self.service.join(body.token))
        except Refused as refused:  # the code may be the admitter's, so it says nothing about our request's form
            return error_answer(refused, REFUSED)

    async def data_list(self, request: Request) -> Response:
        return answer({"data": await self.service.data_list()})

    async def data_add(self, request: Request) -> Response:
        body = await body_of(request, AddData)
        return answer(await self.service.data_add(body.name, body.path, body.options))

    async def data_show(self, request: Request) -> Response:
        return answer(await self.service.data_show(named(request, "name")))

    async def data_remove(self, request: Request) -> Response:
        await self.service.data_remove(named(request, "name"))
        return answer({})

    async def run(self, request: Request) -> Response:
        return answer(await self.service.run(named(request, "run")))

    async def start_run(self, request: Request) -> Response:
        body = await body_of(request, StartRun)
        return answer(await self.service.start_run(body.config, body.source, body.group, body.overrides))

    async def accept(self, request: Request) -> Response:
        body = await body_of(request, Accept)
        return answer(await self.service.accept(named(request, "run"), body.data, body.task))

    async def decline(self, request: Request) -> Response:
        body = await body_of(request, Because)
        return answer(await self.service.decline(named(request, "run"), body.reason))

    async def stop_run(self, request: Request) -> Response:
        body = await body_of(request, Because)
        return answer(await self.service.stop_run(named(request, "run"), body.reason))

    async def resume_run(self, request: Request) -> Response:
        await body_of(request, Nothing)
        return answer(await self.service.resume_run(named(request, "run")))

    async def extend_run(self, request: Request) -> Response:
        body = await body_of(request, Extend)
        return answer(await self.service.extend_run(named(request, "run"), body.rounds))

    async def policy(self, request: Request) -> Response:
        return answer({"rules": await self.service.policy(), "logs": await self.service.all_logs.policy()})

    async def set_policy(self, request: Request) -> Response:
        body = await body_of(request, SetPolicy)
        if body.rules is not None:
            await self.service.set_policy(body.rules)
        if body.logs is not None:
            await self.service.all_logs.set_policy(body.logs)
        return await self.policy(request)

    async def metrics(self, request: Request) -> Response:
        query = MetricsQuery(**query_of(request, MetricsText).model_dump())
        return answer({"metrics": await self.service.curves.metrics(named(request, "run"), query)})

    async def rounds(self, request: Request) -> Response:
        query = query_of(request, RoundsQuery)
        return answer({"rounds": await self.service.rounds(named(request, "run"), query.after_round, query.limit)})

    async def model(self, request: Request) -> Response:
        query = query_of(request, ModelQuery)
        return ModelStream(await self.service.model_file(named(request, "run"), query.round))

    async def sql(self, request: Request) -> Response:
        body = await body_of(request, Sql)
        columns, rows, truncated = await self.service.sql(body.statement, body.rows_max)
        return answer({"columns": columns, "rows": rows, "truncated": truncated})

    async def events(self, request: Request) -> Response:
        return EventStream(self.service.events(), self.stopping)


def _routes(handlers: _Handlers) -> list[Route]:
    return [
        route("GET", "/v1/status", handlers.status),
        route("POST", "/v1/stop", handlers.stop),
        route("GET", "/v1/peers", handlers.peers),
        route("GET", "/metrics", handlers.prometheus),
        route("GET", "/v1/groups", handlers.groups),
        route("POST", "/v1/groups", handlers.create_group),
        route("GET", "/v1/groups/{group}", handlers.group),
        route("POST", "/v1/invitations", handlers.invite),
        route("POST", "/v1/join", handlers.join),
        route("GET", "/v1/data", handlers.data_list),
        route("POST", "/v1/data", handlers.data_add),
        route("GET", "/v1/data/{name}", handlers.data_show),
        route("DELETE", "/v1/data/{name}", handlers.data_remove),
        route("POST", "/v1/runs", handlers.start_run),
        route("GET", "/v1/runs/{run}", handlers.run),
        route("POST", "/v1/runs/{run}/accept", handlers.accept),
        route("POST", "/v1/runs/{run}/decline", handlers.decline),
        route("POST", "/v1/runs/{run}/stop", handlers.stop_run),
        route("POST", "/v1/runs/{run}/resume", handlers.resume_run),
        route("POST", "/v1/runs/{run}/extend", handlers.extend_run),
        route("GET", "/v1/policy", handlers.policy),
        route("PUT", "/v1/policy", handlers.set_policy),
        route("GET", "/v1/runs/{run}/metrics", handlers.metrics),
        route("GET", "/v1/runs/{run}/rounds", handlers.rounds),
        route("GET", "/v1/runs/{run}/model", handlers.model),
        route("POST", "/v1/sql", handlers.sql),
        route("GET", "/v1/events", handlers.events),
        *run_list_routes(handlers.service),
        *artifact_routes(handlers.service),
        *inbox_routes(handlers.service),
        *member_routes(handlers.service),
        *model_routes(handlers.service),
        *node_routes(handlers.service),
        *proposal_routes(handlers.service),
        *system_routes(handlers.service),
        *curve_routes(handlers.service),
        *device_routes(handlers.service),
        *doctor_routes(handlers.service),
        *audit_routes(handlers.service),
        *log_routes(handlers.service, handlers.stopping),
        *store_routes(handlers.service),
        *blob_routes(handlers.service),
    ]


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return error_answer(Refused("malformed", f"{request.url.path} is not for {request.method}", remedy=_SEE))
    return error_answer(NotFound("no-such-path", f"There is no {request.url.path} here", remedy=_SEE))


_SEE = "see docs/api.md for the endpoints"


# --- serving ---------------------------------------------------------------------------------------------------
def application(service: NodeService, stopping: trio.Event) -> ASGIApp:
    """The API of `service` as an ASGI application for trio. A POST to /v1/stop sets `stopping`; event streams end by
    it."""
    starlette = Starlette(
        routes=_routes(_Handlers(service, stopping)), exception_handlers={404: _no_route, 405: _no_route}
    )

    async def match_quoted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        await starlette(scope, receive, send)

    return match_quoted


async def serve_api(
    service: NodeService,
    socket: Path,
    stopping: trio.Event,
    task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `service` on `socket` until `stopping` is set; started once the socket takes connections.

    The caller holds the home's lock: a server takes the socket's file from whoever has it.
    """
    config = Config()
    config.bind = [f"unix:{socket}"]
    config.umask = 0o177  # the file is 0600 from its first moment
    config.graceful_timeout = GRACE_S
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    try:
        async with trio.open_nursery() as nursery:
            app: Any = application(service, stopping)
            await nursery.start(partial(hypercorn.trio.serve, app, config, shutdown_trigger=stopping.wait))
            task_status.started()
    finally:
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - a file of ours in a local folder
