"""The local API's endpoint for recomputing committed rounds, as docs/api.md has it."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import Body, body_of
from node.api.service.service import NodeService


class AuditBody(Body):
    round: int | None = Field(default=None, ge=1)


def audit_routes(service: NodeService) -> list[Route]:
    async def look(request: Request) -> Response:
        body = await body_of(request, AuditBody)
        return answer(await service.audits.look(named(request, "run"), body.round))

    return [route("POST", "/v1/runs/{run}/audit", look)]
