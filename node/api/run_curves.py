"""What the local API tells of a run's past: its figures as they are or thinned out, what befell it, its updates."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from node.api.service.service import Json, MetricsQuery

if TYPE_CHECKING:
    from node.node import Node

IdOf = Callable[[str], Awaitable[str]]  # of what a person calls a run, or a node


class RunCurves:
    """See node.api.service.service.CurveService, which says what every method does.

    `catch_up`: makes what was recorded just now readable."""

    def __init__(self, node: "Node", run_id: IdOf, node_id: IdOf, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._run_id = run_id
        self._node_id = node_id
        self._catch_up = catch_up

    async def metrics(self, run: str, query: MetricsQuery) -> list[Json]:
        wanted = asdict(query)
        wanted["class"] = wanted.pop("class_")
        unused, name = ("points", "metrics") if query.points is None else ("limit", "metric_points")
        del wanted[unused]
        return await self._query(name, run, wanted)

    async def series(self, run: str) -> list[Json]:
        return await self._query("series", run, {})

    async def timeline(self, run: str, limit: int) -> list[Json]:
        return await self._query("timeline", run, {"limit": limit})

    async def updates(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        return await self._query("updates", run, wanted)

    async def _query(self, name: str, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        await self._catch_up()
        filters = dict(wanted)
        if filters.get("node"):
            filters["node"] = await self._node_id(filters["node"])
        return await self._node.record.query(name, run_id=await self._run_id(run), **filters)
