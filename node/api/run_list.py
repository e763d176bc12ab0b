"""What the local API tells of many runs at once: pages of the list, its projects, what watchers begin with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from node.api.service.service import Json
from node.api.views import run_view
from protocol.keys import RunId
from tracker.queries.asking import answered
from tracker.queries.run_list import runs_page, runs_told_first, with_participants
from tracker.queries.runs import RUN_FILTERS

if TYPE_CHECKING:
    from node.node import Node


class RunList:
    """See node.api.service.runs.RunListService, which says what every method does."""

    def __init__(self, node: "Node", catch_up: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._catch_up = catch_up

    async def page(self, wanted: Mapping[str, Any]) -> Json:
        await self._catch_up()
        page = await answered(runs_page(wanted), self._node.record.query)
        return {**page, "runs": [self._view(row) for row in page["runs"]]}

    async def projects(self, wanted: Mapping[str, Any]) -> list[Json]:
        await self._catch_up()
        filters = {key: wanted.get(key) for key in RUN_FILTERS}
        return await self._node.record.query("run_projects", **filters)

    async def told_first(self) -> tuple[list[Json], int]:
        """The newest runs and all that go on or wait for an answer, and how many there are in all."""
        await self._catch_up()
        rows, total = await answered(runs_told_first(), self._node.record.query)
        return [self._view(row) for row in rows], total

    async def views(self, rows: Sequence[Json]) -> list[Json]:
        """Rows of the record as RUNs; their participants are asked for once."""
        return [self._view(row) for row in await answered(with_participants(rows), self._node.record.query)]

    def _view(self, row: Json) -> Json:
        return run_view(row, self._node.runs.known.get(RunId(row["run_id"])))
