"""The local API's endpoints about states, spans and system performance, as docs/api.md has them."""

from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import ROWS_MAX, NameText, Query, query_of
from node.api.service.service import NodeService


class SpansText(Query):
    node: NameText | None = None
    after_round: int | None = Field(default=None, ge=-1)
    before_round: int | None = Field(default=None, ge=0)
    limit: int = Field(default=10_000, ge=1, le=ROWS_MAX)


class SummaryText(Query):
    node: NameText | None = None
    scope: Literal["host", "node", "worker"] | None = None
    key: NameText | None = None
    after: Annotated[str, Field(pattern=r"^[0-9T:. Z+-]{1,40}$")] | None = None  # a time


class SystemText(SummaryText):
    limit: int = Field(default=10_000, ge=1, le=ROWS_MAX)


class StatesText(Query):
    node: NameText | None = None
    after: int | None = Field(default=None, ge=-1)
    limit: int = Field(default=10_000, ge=1, le=ROWS_MAX)


def system_routes(service: NodeService) -> list[Route]:
    async def spans(request: Request) -> Response:
        wanted = query_of(request, SpansText).model_dump()
        return answer({"spans": await service.system.spans(named(request, "run"), wanted)})

    async def metrics(request: Request) -> Response:
        wanted = query_of(request, SystemText).model_dump()
        return answer({"system": await service.system.metrics(named(request, "run"), wanted)})

    async def summary(request: Request) -> Response:
        wanted = query_of(request, SummaryText).model_dump()
        return answer({"summary": await service.system.summary(named(request, "run"), wanted)})

    async def states(request: Request) -> Response:
        wanted = query_of(request, StatesText).model_dump()
        return answer({"states": await service.system.states(named(request, "run"), wanted)})

    return [
        route("GET", "/v1/runs/{run}/spans", spans),
        route("GET", "/v1/runs/{run}/states", states),
        route("GET", "/v1/runs/{run}/system", metrics),
        route("GET", "/v1/runs/{run}/system/summary", summary),
    ]
