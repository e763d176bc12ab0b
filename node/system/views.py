"""What the local API tells of how a run's nodes spent their time, and of how busy their machines were."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from node.api.service.service import Json
from protocol.errors import FednodeError

if TYPE_CHECKING:
    from node.node import Node

IdOf = Callable[[str], Awaitable[str]]  # of what a person calls a run, or a node


class SystemViews:
    """See node.api.service.service.SystemService, which says what every method does."""

    def __init__(self, node: "Node", run_id: IdOf, node_id: IdOf) -> None:
        self._node = node
        self._run_id = run_id
        self._node_id = node_id

    async def spans(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        return await self._query("spans", run, wanted)

    async def metrics(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        return await self._query("system_metrics", run, wanted)

    async def summary(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        return await self._query("system_summary", run, wanted)

    async def states(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        return await self._query("statuses", run, wanted)

    async def _query(self, name: str, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        with suppress(FednodeError):  # a disk that takes nothing keeps nobody from reading
            await self._node.record.flush()
        node = wanted.get("node")
        found = {**wanted, "node": await self._node_id(node) if node else None}
        return await self._node.record.query(name, run_id=await self._run_id(run), **found)
