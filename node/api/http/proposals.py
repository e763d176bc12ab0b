"""The local API's endpoints for people who are still writing a run's configuration."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import StartRun, body_of
from node.api.service.service import Asked, NodeService
from node.run.proposal import templates


def proposal_routes(service: NodeService) -> list[Route]:
    async def shown(request: Request) -> Response:
        return answer(templates())

    async def check(request: Request) -> Response:
        asked = Asked(**(await body_of(request, StartRun)).model_dump())
        return answer(await service.proposals.check(asked))

    return [
        route("GET", "/v1/templates", shown),
        route("POST", "/v1/runs/check", check),
    ]
