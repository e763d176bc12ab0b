"""The local API's endpoints about logs, this node's own and those of all nodes, as docs/api.md has them."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import trio
from pydantic import Field, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import NameText, Query, query_of
from node.api.http.streams import EventStream, SendPiece
from node.api.service.service import AllLogsQuery, GatheringLogs, Level, LogsQuery, NodeService
from node.logs.share import LINES_MAX

TEXT_CHARACTERS_MAX = 200  # looked for in a line: more than anybody types
PLACE_CHARACTERS_MAX = 200  # of a line among all lines: a time, a number, a node's id
NUMBER_MAX = 2**63 - 1  # of a line, as the record holds it


class LogsText(Query):
    node: NameText | None = None
    level: Level | None = None
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX)] | None = None
    after: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    before: Annotated[str, Field(max_length=PLACE_CHARACTERS_MAX)] | None = None
    limit: int = Field(default=1000, ge=1, le=100_000)

    @field_validator("before")
    @classmethod
    def _is_place(cls, place: str | None) -> str | None:
        """As an answer's `previous`: the time without a zone, the number, the node."""
        if place is None:
            return None
        try:
            time, number, _node = place.split(",", 2)
            is_place = datetime.fromisoformat(time).tzinfo is None and 0 <= int(number) <= NUMBER_MAX
        except ValueError:
            is_place = False
        if not is_place:
            raise ValueError("give what an answer has as its `previous`")
        return place

    @model_validator(mode="after")
    def _has_one_direction(self) -> "LogsText":
        if self.after is not None and self.before is not None:
            raise ValueError("give either after or before")
        return self


class AllLogsText(Query):
    node: NameText | None = None
    level: Level | None = None
    limit: int = Field(default=1000, ge=1, le=LINES_MAX)
    follow: bool = False


def log_routes(service: NodeService, stopping: trio.Event) -> list[Route]:
    async def logs(request: Request) -> Response:
        query = LogsQuery(**query_of(request, LogsText).model_dump())
        run = named(request, "run") if "run" in request.path_params else None
        page = await service.logs(run, query)
        return answer({"logs": page.lines, "next": page.next, "previous": page.previous})

    async def all_logs(request: Request) -> Response:
        query = AllLogsQuery(**query_of(request, AllLogsText).model_dump())
        return LogStream(await service.all_logs.prepare(named(request, "run"), query), stopping)

    return [
        route("GET", "/v1/logs", logs),
        route("GET", "/v1/runs/{run}/logs", logs),
        route("GET", "/v1/runs/{run}/logs/all", all_logs),
    ]


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
