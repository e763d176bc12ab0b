"""The care of the blobs, as the local API offers it: what takes their room, reading them, collecting garbage."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from node.record.blob_usage import kinds_in_run, usage_of, words_of
from node.record.kept_blobs import GARBAGE
from node.record.retention import Looked
from node.run.models import Models, made_in
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId, RunId
from protocol.limits import BLOB_BYTES_MAX
from tracker.blobs.stored import StoredBlob

if TYPE_CHECKING:
    from node.api.service.store import Json
    from node.node import Node

log = logging.getLogger("fednode.node")

FETCH_AGAIN_S = 60.0  # of waiting for what was damaged to come again; it goes on by itself when it is needed

NOT_NEEDED = "nothing needs it"
NOBODY = "no node that is known here has it"
FETCHED = "fetched again"


class BlobCare:
    """See node.api.service.store.BlobService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._reading = trio.Lock()  # one reader of everything is enough for a disk

    async def usage(self) -> "Json":
        node = self._node
        await node.record.flush()
        told = usage_of(await node.retention.look(), list(node.runs.known.values()))
        free = node.capacity().disk_free_bytes
        return {**told, "blobs_max_bytes": node.limits.quota.bytes_max, "disk_free_bytes": free}

    async def collect(self, *, dry_run: bool) -> "Json":
        removed = await self._node.retention.collect_blobs(dry_run=dry_run)
        told = removed.told(dry_run=dry_run)
        kinds = [{"kind": kind, "why": GARBAGE[kind], **of} for kind, of in told["blobs"].items()]
        return {"dry_run": dry_run, "kinds": kinds, **{key: told[key] for key in ("bytes", "recent", "spared")}}

    async def verify(self) -> "Json":
        async with self._reading:
            stored = [entry for entry in await self._node.disk.stored_blobs() if not entry.is_half]
            found = [(entry, why) for entry in stored if (why := await self._why_bad(entry))]
            await self._node.record.flush()
            looked = await self._node.retention.look()
            bad = {entry.blob for entry, _ in found}
            found += [each for each in await self._lacking(looked) if each[0].blob not in bad]
            damaged = [
                {
                    "blob": entry.blob,
                    "bytes": entry.bytes,
                    "of": words_of(entry, looked, list(self._node.runs.known.values())),
                    "what": why,
                    "again": await self._again(entry, looked),
                }
                for entry, why in found
            ]
        return {"blobs": len(stored), "bytes": sum(entry.bytes for entry in stored), "damaged": damaged}

    async def _lacking(self, looked: Looked) -> "list[tuple[StoredBlob, str]]":
        """Models that are to be kept and of which there is only a part here, which damage leaves; or nothing."""
        whole = {entry.blob for entry in looked.stored if not entry.is_half}
        halves = {entry.blob: entry for entry in looked.stored if entry.is_half}
        wanted = [entry for entry in halves.values() if entry.blob in looked.sorting.kept - looked.sorting.made]
        for known in list(self._node.runs.known.values()):
            last = known.ledger.committed if known.driver is not None and known.ledger is not None else None
            if last is not None and (run := looked.sorting.runs.get(known.run_id)) is not None:
                newest = run.rounds.get(made_in(last.checkpoint.round, last.checkpoint.updates), set())
                wanted += [StoredBlob(BlobId(blob), 0, 0.0) for blob in sorted(newest - whole - halves.keys())]
        under_way = {each.blob for each in self._node.bulk.transfers()}
        what = {True: "is here only in part", False: "is not here any more"}
        return [
            (entry, f"The blob {entry.blob} {what[entry.is_half]}") for entry in wanted if entry.blob not in under_way
        ]

    async def mend(self, model: "Json") -> bool:
        """Fetch what is lacking of a model, {"run_id", "model", "schema"}, from the nodes of its run; whether it is all
        here then. At most FETCH_AGAIN_S."""
        known = self._node.runs.known.get(RunId(model["run_id"]))
        if known is None or known.ledger is None:
            return False
        holders = list(map(NodeId, known.ledger.newest.roster))
        if why_not := await self._fetch((model["schema"], model["model"]), holders):
            log.info("the model %s is %s", model["model"], why_not)
        return not why_not

    async def _why_bad(self, entry: StoredBlob) -> str:
        """What is wrong with a blob, which is then set aside; "" when it is sound, or has gone since."""
        try:
            reader = await self._node.disk.open_blob(entry.blob)
            for index in range(len(reader.chunk_hashes)):
                await reader.chunk(index)
        except FednodeError as error:
            halves = {each.blob for each in await self._node.disk.stored_blobs() if each.is_half}
            is_there = await self._node.disk.has_blob(entry.blob)
            return error.what if is_there or entry.blob in halves else ""
        return ""

    async def _again(self, entry: StoredBlob, looked: Looked) -> str:
        """Fetch a damaged blob from the nodes of the runs that it belongs to, and say how that went."""
        holders: dict[NodeId, None] = {}
        for run in list(self._node.runs.known.values()):
            kinds = kinds_in_run(run, looked.sorting.runs.get(run.run_id, Models()))
            if entry.blob in kinds and run.ledger is not None:
                holders |= dict.fromkeys(map(NodeId, run.ledger.newest.roster))
        if not holders and entry.blob not in looked.sorting.kept:
            return NOT_NEEDED
        holders.pop(self._node.identity.node_id, None)
        if not holders:
            return NOBODY
        return await self._fetch([entry.blob], list(holders)) or FETCHED

    async def _fetch(self, blobs: Sequence[str], holders: Sequence[NodeId]) -> str:
        """Until the blobs are here, for at most FETCH_AGAIN_S; why they are not, "" when they are."""
        try:
            with trio.fail_after(FETCH_AGAIN_S):
                for blob in blobs:
                    await self._node.bulk.fetch(BlobId(blob), holders, BLOB_BYTES_MAX)
        except trio.TooSlowError:
            return f"not fetched again within {FETCH_AGAIN_S:.0f} s; it goes on when a run needs it"
        except FednodeError as error:
            return f"not fetched again: {error.what}"
        return ""
