"""What the local API tells of blobs on their way, and of the limits that they go by."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from node.api.service.store import Json
from node.record.blob_usage import kinds_at_work
from node.run.driver import RunDriver
from node.run.known_run import KnownRun
from protocol.keys import BlobId, NodeId
from tracker.tables.rows import iso

if TYPE_CHECKING:
    from node.network.bulk.bulk import TransferProgress
    from node.node import Node

TELL_INTERVAL_S = 1.0  # rates are means over seconds


class Transfers:
    """See node.api.service.store.TransferService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._told_at = 0.0
        self._told_any = False

    async def listed(self) -> list[Json]:
        return self.views()

    async def limits(self) -> Json:
        return {**self._node.limits.view(), "blobs_bytes": await self._blobs_bytes()}

    async def set_limits(self, texts: Mapping[str, str]) -> Json:
        return {**await self._node.limits.set(texts), "blobs_bytes": await self._blobs_bytes()}

    async def _blobs_bytes(self) -> int:
        return sum(entry.bytes for entry in await self._node.disk.stored_blobs())

    def publish(self) -> None:
        """Tell the watchers, once a second while something is on its way, and once more when nothing is."""
        if trio.current_time() < self._told_at + TELL_INTERVAL_S:
            return
        views = self.views()
        if views or self._told_any:
            self._node.hub.publish({"type": "transfers", "transfers": views})
        self._told_any, self._told_at = bool(views), trio.current_time()

    def views(self) -> list[Json]:
        under_way = self._node.bulk.transfers()
        return [self._view(each) for each in under_way]

    def _view(self, each: "TransferProgress") -> Json:
        node = self._node
        kind, run = self._kind_and_run(each.blob)
        return {
            "blob": each.blob,
            "kind": kind,
            "run_id": run.run_id if run else "",
            "run_name": run.name if run else "",
            "direction": each.direction,
            "peer": each.peer,
            "peer_name": _name(node, each.peer),
            "done_bytes": each.done_bytes,
            "total_bytes": each.total_bytes,
            "rate_bytes_per_s": each.rate_bytes_per_s,
            "left_s": each.left_s,
            "began_at": iso(node.now() - (trio.current_time() - each.began)),
        }

    def _kind_and_run(self, blob: BlobId) -> tuple[str, KnownRun | None]:
        """Of runs that share the blob the one that fetches it, else one that goes on, else the newest."""
        best: tuple[str, KnownRun | None] = "", None
        rank = (False, False)
        for run in self._node.runs.known.values():
            if run.driver is not None and (kind := _kind_in(blob, run, run.driver)):
                of_run = (bool(run.driver.kind_on_its_way(blob)), not run.is_over)
                if best[1] is None or of_run >= rank:
                    best, rank = (kind, run), of_run
        return best


def _kind_in(blob: BlobId, run: KnownRun, driver: RunDriver) -> str:
    """By the same name at both ends: who gets a part of a checkpoint does not know yet which one it is."""
    if driver.is_coding(blob):
        return "update"
    at_work = kinds_at_work(run).get(blob, "")
    return driver.kind_on_its_way(blob) or ("update" if at_work == "updates" else "checkpoint" if at_work else "")


def _name(node: "Node", peer: str) -> str:
    for place in node.groups.places.values():
        if entry := place.state().nodes.get(NodeId(peer)):
            return entry.name
    return ""
