"""The care of the record, as the local API offers it: what is kept, copies, what others have exported."""

import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import trio

from node.record import StoreRecord
from node.retention import Removed
from node.service import Json, StoreCopy
from node.store_files import check_files, told
from protocol.errors import FednodeError, Refused
from tracker.chunks import is_blob_id
from tracker.connect import work_folder
from tracker.retention import MEANINGS, Rules

if TYPE_CHECKING:
    from node.node import Node

PIECE_BYTES = 1024 * 1024  # of a copy, read and sent at a time
BLOBS_MAX = 100_000  # of one import


class StoreCare:
    """See node.service.StoreService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._copying = trio.Lock()  # one copy at a time: each may take as much room as the store
        self._copies = 0

    # --- what is kept ----------------------------------------------------------------------------------------------
    async def retention(self) -> Json:
        rules, defaults = self._node.retention.rules.texts(), Rules().texts()
        return {
            "retention": [
                {"kind": kind, "kept": rules[kind], "default": defaults[kind], "what": MEANINGS[kind]}
                for kind in MEANINGS
            ]
        }

    async def set_retention(self, rules: Mapping[str, str]) -> Json:
        await self._node.retention.set(dict(rules))
        return await self.retention()

    async def prune(self, *, dry_run: bool) -> Json:
        removed: Removed = await self._node.retention.prune(dry_run=dry_run)
        return removed.told(dry_run=dry_run)

    # --- copies ----------------------------------------------------------------------------------------------------
    async def compact(self) -> Json:
        record = self._record()
        async with self._copying:
            done = await record.compact()
        return {"bytes_before": done.bytes_before, "bytes_after": done.bytes_after}

    async def backup(self) -> StoreCopy:
        record = self._record()
        async with self._copying:
            self._copies += 1
            path = await record.write_copy(f"backup-{self._copies}.duckdb")
            # Without a name it is gone when its reader is, however that ends.
            file: IO[bytes] = await self._offload(partial(_opened_and_unlinked, path))
        return StoreCopy(os.fstat(file.fileno()).st_size, self._pieces(file))

    async def _pieces(self, file: IO[bytes]) -> AsyncIterator[bytes]:
        with file:
            while piece := await self._offload(partial(file.read, PIECE_BYTES)):
                yield piece

    # --- looking through -------------------------------------------------------------------------------------------
    async def check(self, *, deep: bool) -> Json:
        record = self._record()
        await record.flush()
        checked = await record.look_through()
        named = await record.models_named()
        home = Path(self._node.home)
        findings = await self._offload(partial(check_files, home, named, deep=deep))
        return told(checked, findings, str(record.path))

    # --- what others have exported ---------------------------------------------------------------------------------
    async def take_in(self, name: str, models: str | None) -> Json:
        record = self._record()
        path = work_folder(record.path) / name
        try:
            await record.flush()
            merged = await record.merge(path, self._node.retention.rules, self._node.now())
            blobs, wrong = await self._take_blobs(Path(models)) if models else (0, 0)
        finally:
            await self._offload(partial(path.unlink, missing_ok=True))
        return {
            "rows": merged.rows,
            "runs": merged.runs,
            "too_old": merged.too_old,
            "blobs": blobs,
            "blobs_damaged": wrong,
        }

    async def _take_blobs(self, folder: Path) -> tuple[int, int]:
        """How many came in, and how many were not what their names say; these go with the next sweep."""
        paths = await self._offload(lambda: sorted(path for path in folder.iterdir() if is_blob_id(path.name)))
        if len(paths) > BLOBS_MAX:
            raise Refused("bad-import", f"{folder} has more than {BLOBS_MAX:,} blobs", remedy="import fewer at once")
        stored = [await self._node.disk.put_blob(path) == path.name for path in paths]
        return sum(stored), len(stored) - sum(stored)

    # --- helpers ---------------------------------------------------------------------------------------------------
    def _record(self) -> StoreRecord:
        record = self._node.record
        if not isinstance(record, StoreRecord):
            raise FednodeError("This node's record is not in a file of its own", remedy="ask the simulation's store")
        return record

    def _offload(self, work: Any) -> Awaitable[Any]:
        return self._node.trainer.offload(work)


def _opened_and_unlinked(path: Path) -> IO[bytes]:
    file = path.open("rb")
    path.unlink()
    return file
