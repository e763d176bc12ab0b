"""What the local API tells of many runs at once: pages of the list, its projects, what watchers begin with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from node.service import Json
from node.views import run_view
from protocol.keys import RunId
from tracker.queries_runs import RUN_FILTERS

if TYPE_CHECKING:
    from node.node import Node

NEWEST_TOLD = 100  # that watchers begin with; older ones they ask for page by page
OPEN_TOLD_MAX = 1_000  # of those that go on or wait for an answer: far more than one node can take part in
_ORDER = ("limit", "offset", "descending", "by_project")


class RunList:
    """See node.service_runs.RunListService, which says what every method does."""

    def __init__(self, node: "Node", catch_up: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._catch_up = catch_up

    async def page(self, wanted: Mapping[str, Any]) -> Json:
        await self._catch_up()
        query = self._node.record.query
        filters = {key: wanted.get(key) for key in RUN_FILTERS}
        order = {key: wanted.get(key) for key in _ORDER}
        rows = await query(f"runs_by_{wanted.get('sort') or 'created'}", **filters, **order)
        runs = [self._view(row, []) for row in rows] if wanted.get("brief") else await self.views(rows)
        if wanted.get("brief"):
            for run in runs:
                del run["participants"]
        totals = await query("runs_total", **filters)
        return {"runs": runs, "total": totals[0]["total"] if totals else 0}

    async def projects(self, wanted: Mapping[str, Any]) -> list[Json]:
        await self._catch_up()
        filters = {key: wanted.get(key) for key in RUN_FILTERS}
        return await self._node.record.query("run_projects", **filters)

    async def told_first(self) -> tuple[list[Json], int]:
        """The newest runs and all that go on or wait for an answer, newest first, and how many there are in all."""
        await self._catch_up()
        query = self._node.record.query
        rows = await query("runs", limit=NEWEST_TOLD)
        known = {row["run_id"] for row in rows}
        still_open = await query("runs", limit=OPEN_TOLD_MAX, open=True)
        rows += [row for row in still_open if row["run_id"] not in known]
        totals = await query("runs_total")
        return await self.views(rows), totals[0]["total"] if totals else 0

    async def views(self, rows: Sequence[Json]) -> list[Json]:
        """Rows of the record as RUNs; their participants are asked for once."""
        by_run: dict[str, list[Json]] = {row["run_id"]: [] for row in rows}
        for entry in await self._node.record.query("participants", run_ids=list(by_run)) if rows else ():
            by_run[entry.pop("run_id")].append(entry)
        return [self._view(row, by_run[row["run_id"]]) for row in rows]

    def _view(self, row: Json, participants: list[Json]) -> Json:
        return run_view(row, participants, self._node.runs.known.get(RunId(row["run_id"])))
