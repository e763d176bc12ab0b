"""Data sets as the local API tells of them, and as this node's record keeps them: with statistics of their content.

Statistics are worked out when a data set is added, and anew when it is shown and has changed. They stay in this node's
record: nothing about a data set's content leaves the node.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from node.api.service.service import Json, NotFound
from node.data.datasets import DataSet
from node.data.statistics import statistics_of
from protocol.errors import Refused
from tracker.tables.rows import DataSetRow

if TYPE_CHECKING:
    from node.node import Node


class DataViews:
    """One node's data sets."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def add(self, name: str, path: str, options: Mapping[str, Any]) -> Json:
        """Register a data set. Raises Refused."""
        data = await self.register(name, path, options)
        return {**data_view(data), "statistics": await self._measured(data)}

    async def register(self, name: str, path: str, options: Mapping[str, Any]) -> DataSet:
        """Register a data set, and leave its statistics for when somebody looks. Raises Refused."""
        data = await self._node.data_sets.add(name, path, options)
        self.record(data)
        return data

    async def listed(self) -> list[Json]:
        """Every data set with its `rows`, as far as somebody has counted those of what lies there now."""
        rows = {row["name"]: row for row in await self._node.record.query("data_sets")}
        listed = []
        for data in self._node.data_sets.all():
            known = rows.get(data.name, {})
            counted = known.get("rows") if known.get("fingerprint") == data.fingerprint else None
            listed.append({**data_view(data), "rows": counted})
        return listed

    async def show(self, name: str) -> Json:
        """A data set with its statistics. Raises NotFound, and Refused when it has gone since."""
        try:
            data = await self._node.data_sets.renewed(name)
        except Refused as refused:
            if refused.code == "no-such-data":
                raise NotFound(refused.code, refused.what, remedy=refused.remedy) from None
            raise
        await self._node.record.flush()
        rows = await self._node.record.query("data_statistics", data_set=name)
        if rows and rows[0]["fingerprint"] == data.fingerprint and rows[0]["statistics"]:
            return {**data_view(data), "statistics": rows[0]["statistics"]}
        return {**data_view(data), "statistics": await self._measured(data)}

    def record(self, data: DataSet, *, removed: bool = False, statistics: Json | None = None) -> None:
        self._node.record.add(
            DataSetRow(
                data.name,
                data.path,
                data.kind,
                data.bytes,
                data.fingerprint,
                json.dumps(dict(data.options)),
                self._node.now(),
                removed,
                json.dumps(statistics or {}),
            )
        )
        if statistics is None:
            self._node.hub.publish({"type": "changed", "what": "data"})

    async def _measured(self, data: DataSet) -> Json:
        statistics: Json = await self._node.trainer.offload(partial(statistics_of, data.path, data.kind))
        self.record(data, statistics=statistics)
        return statistics


def data_view(data: DataSet) -> Json:
    """DATA as docs/api.md has it."""
    return {
        "name": data.name,
        "path": data.path,
        "kind": data.kind,
        "bytes": data.bytes,
        "fingerprint": data.fingerprint,
        "added_at": data.added_at,
        "options": dict(data.options),
    }
