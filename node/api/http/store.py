"""The local API's endpoints for the care of the record."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import Body, Nothing, PathText, body_of
from node.api.http.streams import PiecesStream
from node.api.service.service import NodeService

RULE_CHARACTERS_MAX = 200

RuleText = Annotated[str, Field(min_length=1, max_length=RULE_CHARACTERS_MAX)]


class SetRetention(Body):
    rules: Annotated[dict[RuleText, RuleText], Field(min_length=1, max_length=20)]


class Prune(Body):
    dry_run: bool = False


class Check(Body):
    deep: bool = False


class Import(Body):
    # A file that the caller has put into the store's work folder.
    file: Annotated[str, Field(pattern=r"^import-[0-9a-f]{1,32}\.duckdb$")]
    models: PathText | None = None


def store_routes(service: NodeService) -> list[Route]:
    async def retention(request: Request) -> Response:
        return answer(await service.store.retention())

    async def set_retention(request: Request) -> Response:
        return answer(await service.store.set_retention((await body_of(request, SetRetention)).rules))

    async def prune(request: Request) -> Response:
        return answer(await service.store.prune(dry_run=(await body_of(request, Prune)).dry_run))

    async def compact(request: Request) -> Response:
        await body_of(request, Nothing)
        return answer(await service.store.compact())

    async def backup(request: Request) -> Response:
        copy = await service.store.backup()
        return PiecesStream(copy.chunks, copy.size, {})

    async def check(request: Request) -> Response:
        return answer(await service.store.check(deep=(await body_of(request, Check)).deep))

    async def take_in(request: Request) -> Response:
        body = await body_of(request, Import)
        return answer(await service.store.take_in(body.file, body.models))

    return [
        route("GET", "/v1/store/retention", retention),
        route("PUT", "/v1/store/retention", set_retention),
        route("POST", "/v1/store/prune", prune),
        route("POST", "/v1/store/compact", compact),
        route("GET", "/v1/store/backup", backup),
        route("POST", "/v1/store/check", check),
        route("POST", "/v1/store/import", take_in),
    ]
