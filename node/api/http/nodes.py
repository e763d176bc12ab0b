"""The local API's endpoints about the member's own nodes and its profile, as docs/api.md has them."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import Body, body_of
from node.api.service.service import NodeService

_NAME_CHARACTERS_MAX = 200  # of a node; what is longer than a name or an id is neither
LINK_S = 3600  # what a device token lasts when nobody says: the other machine is being set up now


class MakeLink(Body):
    expires_s: int = Field(default=LINK_S, gt=0)


class RevokeNode(Body):
    node: str = Field(min_length=1, max_length=_NAME_CHARACTERS_MAX)


class SetProfile(Body):
    name: str | None = None
    organisation: str | None = None
    contact: str | None = None


def node_routes(service: NodeService) -> list[Route]:
    async def listed(request: Request) -> Response:
        return answer(await service.memberships.own_nodes.listed())

    async def link(request: Request) -> Response:
        body = await body_of(request, MakeLink)
        return answer(await service.memberships.own_nodes.link(body.expires_s))

    async def revoke_link(request: Request) -> Response:
        return answer(await service.memberships.own_nodes.revoke_link(request.path_params["link"]))

    async def revoke(request: Request) -> Response:
        body = await body_of(request, RevokeNode)
        return answer(await service.memberships.own_nodes.revoke(body.node))

    async def profile(request: Request) -> Response:
        return answer(await service.memberships.own_nodes.profile())

    async def set_profile(request: Request) -> Response:
        body = await body_of(request, SetProfile)
        return answer(await service.memberships.own_nodes.set_profile(**body.model_dump()))

    return [
        route("GET", "/v1/nodes", listed),
        route("POST", "/v1/nodes/link", link),
        route("DELETE", "/v1/nodes/links/{link}", revoke_link),
        route("POST", "/v1/nodes/revoke", revoke),
        route("GET", "/v1/profile", profile),
        route("PUT", "/v1/profile", set_profile),
    ]
