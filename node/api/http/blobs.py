"""The local API's endpoints about blobs: what they take up, their care, their transfers and limits."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import Body, Nothing, body_of
from node.api.service.service import NodeService

LimitText = Annotated[str, Field(min_length=1, max_length=40)]


class Collect(Body):
    dry_run: bool = False


class SetLimits(Body):
    """Texts as people write them (node.network.rates); what is not given stays."""

    up: LimitText | None = None
    down: LimitText | None = None
    blobs_max: LimitText | None = None


def blob_routes(service: NodeService) -> list[Route]:
    async def usage(request: Request) -> Response:
        return answer(await service.blobs.usage())

    async def verify(request: Request) -> Response:
        await body_of(request, Nothing)
        return answer(await service.blobs.verify())

    async def collect(request: Request) -> Response:
        return answer(await service.blobs.collect(dry_run=(await body_of(request, Collect)).dry_run))

    async def transfers(request: Request) -> Response:
        return answer({"transfers": await service.transfers.listed()})

    async def limits(request: Request) -> Response:
        return answer(await service.transfers.limits())

    async def set_limits(request: Request) -> Response:
        texts = (await body_of(request, SetLimits)).model_dump(exclude_none=True)
        return answer(await service.transfers.set_limits(texts))

    return [
        route("GET", "/v1/blobs", usage),
        route("POST", "/v1/blobs/verify", verify),
        route("POST", "/v1/blobs/gc", collect),
        route("GET", "/v1/transfers", transfers),
        route("GET", "/v1/limits", limits),
        route("PUT", "/v1/limits", set_limits),
    ]
