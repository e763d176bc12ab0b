"""The local API's endpoints about what waits for a person, as docs/api.md has them."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import Nothing, body_of
from node.api.service.service import NodeService


def inbox_routes(service: NodeService) -> list[Route]:
    async def inbox(request: Request) -> Response:
        return answer({"inbox": await service.inbox.items()})

    async def seen(request: Request) -> Response:
        await body_of(request, Nothing)
        await service.inbox.seen(named(request, "item"))
        return answer({})

    async def proposal(request: Request) -> Response:
        return answer(await service.inbox.proposal(named(request, "run")))

    return [
        route("GET", "/v1/inbox", inbox),
        route("POST", "/v1/inbox/{item}/seen", seen),
        route("GET", "/v1/runs/{run}/proposal", proposal),
    ]
