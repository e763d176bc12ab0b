"""The local API's endpoints about many runs at once, as docs/api.md has them."""

from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.answers import answer, route
from node.api.http.bodies import NameText, Query, query_of
from node.api.service.service import NodeService

RUNS_MAX = 10_000  # of one answer: with their participants some 20 MB, and a second of the node's time
TEXT_CHARACTERS_MAX = 200  # of what is looked for; people type it


class ProjectsText(Query):
    text: Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)] | None = None
    state: Literal["PROPOSED", "GATHERING", "RUNNING", "FINISHED", "STOPPED", "FAILED"] | None = None
    open: bool | None = None


class RunsText(ProjectsText):
    before: Annotated[str, Field(max_length=40)] | None = None
    project: NameText | None = None
    sort: Literal["created", "name", "project", "state", "round", "accuracy", "loss"] = "created"
    descending: bool | None = None
    by_project: bool = False
    limit: int = Field(default=100, ge=1, le=RUNS_MAX)
    offset: int = Field(default=0, ge=0, le=10**9)
    brief: bool = False


def run_list_routes(service: NodeService) -> list[Route]:
    async def runs(request: Request) -> Response:
        return answer(await service.run_list.page(query_of(request, RunsText).model_dump()))

    async def projects(request: Request) -> Response:
        wanted = query_of(request, ProjectsText).model_dump()
        return answer({"projects": await service.run_list.projects(wanted)})

    return [route("GET", "/v1/runs", runs), route("GET", "/v1/projects", projects)]
