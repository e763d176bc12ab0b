"""The local API's endpoints about who is in a group, and its signed history, as docs/api.md has them."""

from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, named, route
from node.api.http.bodies import Because, Body, Nothing, Query, body_of, query_of
from node.api.service.service import NodeService

HISTORY_MAX = 1000  # operations in one answer: a page to read, some 400 kB
_HASH_CHARACTERS = 64


class ChangeRole(Body):
    role: Literal["admin", "member", "observer"]


class HistoryQuery(Query):
    before: Annotated[str, Field(min_length=4, max_length=_HASH_CHARACTERS)] | None = None
    limit: int = Field(default=100, ge=1, le=HISTORY_MAX)


def member_routes(service: NodeService) -> list[Route]:
    async def remove(request: Request) -> Response:
        body = await body_of(request, Because)
        return answer(await service.memberships.remove(named(request, "group"), named(request, "member"), body.reason))

    async def change_role(request: Request) -> Response:
        body = await body_of(request, ChangeRole)
        return answer(
            await service.memberships.change_role(named(request, "group"), named(request, "member"), body.role)
        )

    async def leave(request: Request) -> Response:
        await body_of(request, Nothing)
        return answer(await service.memberships.leave(named(request, "group")))

    async def revoke(request: Request) -> Response:
        return answer(await service.memberships.revoke(named(request, "group"), named(request, "invite")))

    async def history(request: Request) -> Response:
        query = query_of(request, HistoryQuery)
        return answer(await service.memberships.history(named(request, "group"), query.before, query.limit))

    return [
        route("POST", "/v1/groups/{group}/members/{member}/remove", remove),
        route("POST", "/v1/groups/{group}/members/{member}/role", change_role),
        route("POST", "/v1/groups/{group}/leave", leave),
        route("DELETE", "/v1/groups/{group}/invitations/{invite}", revoke),
        route("GET", "/v1/groups/{group}/history", history),
    ]
