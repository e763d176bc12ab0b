"""The local API's endpoints about the logs of all nodes, as docs/api.md has them."""

from contextlib import suppress
from typing import Any

import trio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api_answers import named, route
from node.api_bodies import NameText, Query, query_of
from node.api_streams import EventStream, SendPiece
from node.log_share import LINES_MAX
from node.service import AllLogsQuery, GatheringLogs, Level, NodeService


class AllLogsText(Query):
    node: NameText | None = None
    level: Level | None = None
    limit: int = Field(default=1000, ge=1, le=LINES_MAX)
    follow: bool = False


def log_routes(service: NodeService, stopping: trio.Event) -> list[Route]:
    async def all_logs(request: Request) -> Response:
        query = AllLogsQuery(**query_of(request, AllLogsText).model_dump())
        return LogStream(await service.all_logs.prepare(named(request, "run"), query), stopping)

    return [route("GET", "/v1/runs/{run}/logs/all", all_logs)]


class LogStream(EventStream):
    """The lines of all nodes as they come, until there are no more. When its reader leaves, nobody is asked further."""

    def __init__(self, gathering: GatheringLogs, stopping: trio.Event) -> None:
        self._gathering = gathering
        self._give, batches = trio.open_memory_channel[list[dict[str, Any]]](0)
        super().__init__(batches, stopping)

    async def write(self, send: SendPiece) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gather)
            await super().write(send)
            nursery.cancel_scope.cancel()

    async def _gather(self) -> None:
        with suppress(trio.BrokenResourceError):  # the stream has ended by itself: the node stops
            async with self._give:
                await self._gathering.run(self._give.send)
