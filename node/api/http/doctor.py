"""The local API's endpoint for what is wrong with a node, as docs/api.md has it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.service.service import NodeService


def doctor_routes(service: NodeService) -> list[Route]:
    async def look(request: Request) -> Response:
        return answer(await service.doctor.look())

    return [route("GET", "/v1/doctor", look)]
