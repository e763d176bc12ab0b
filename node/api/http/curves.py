"""The local API's endpoints about a run's curves, what befell it, and its updates, as docs/api.md has them."""

from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import NameText, Query, query_of
from node.api.service.service import NodeService
from tracker.queries.timeline import TIMELINE_MAX, UPDATES_MAX


class TimelineText(Query):
    limit: int = Field(default=500, ge=1, le=TIMELINE_MAX)


class UpdatesText(Query):
    after_round: int | None = Field(default=None, ge=-1)
    before_round: int | None = Field(default=None, ge=0)
    node: NameText | None = None
    outcome: Literal["used", "late", "refused"] | None = None
    limit: int = Field(default=1000, ge=1, le=UPDATES_MAX)


def curve_routes(service: NodeService) -> list[Route]:
    async def series(request: Request) -> Response:
        return answer({"series": await service.curves.series(named(request, "run"))})

    async def timeline(request: Request) -> Response:
        wanted = query_of(request, TimelineText)
        return answer({"events": await service.curves.timeline(named(request, "run"), wanted.limit)})

    async def updates(request: Request) -> Response:
        wanted = query_of(request, UpdatesText).model_dump()
        return answer({"updates": await service.curves.updates(named(request, "run"), wanted)})

    return [
        route("GET", "/v1/runs/{run}/series", series),
        route("GET", "/v1/runs/{run}/timeline", timeline),
        route("GET", "/v1/runs/{run}/updates", updates),
    ]
