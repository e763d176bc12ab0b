"""The local API's endpoints for artifacts: what this node's tasks have made and kept."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.streams import PiecesStream
from node.api.service.service import NodeService


def artifact_routes(service: NodeService) -> list[Route]:
    async def listed(request: Request) -> Response:
        return answer({"artifacts": await service.artifacts.listed(named(request, "run"))})

    async def every(request: Request) -> Response:
        return answer({"artifacts": await service.artifacts.all()})

    async def file(request: Request) -> Response:
        found = await service.artifacts.file(*(named(request, part) for part in ("run", "node", "name")))
        return PiecesStream(found.pieces, found.size, {"X-Fednode-Blob": found.blob})

    return [
        route("GET", "/v1/artifacts", every),
        route("GET", "/v1/runs/{run}/artifacts", listed),
        route("GET", "/v1/runs/{run}/artifacts/{node}/{name}", file),
    ]
