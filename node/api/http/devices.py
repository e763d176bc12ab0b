"""The local API's endpoint about nodes over time, as docs/api.md has it."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import Query, query_of
from node.api.service.service import NodeService

POINTS_MAX = 1000  # of one line: more than any screen is wide


class DevicesText(Query):
    after: Annotated[str, Field(pattern=r"^[0-9T:. Z+-]{1,40}$")] | None = None  # a time
    points: int = Field(default=120, ge=2, le=POINTS_MAX)


def device_routes(service: NodeService) -> list[Route]:
    async def devices(request: Request) -> Response:
        wanted = query_of(request, DevicesText).model_dump()
        return answer({"devices": await service.devices.listed(wanted)})

    return [route("GET", "/v1/devices", devices)]
