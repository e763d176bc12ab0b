"""Reading what a run needs from this node's disk: a blob that is damaged or lost there comes again from the others.

The disk notices damage when it reads, and sets the blob aside; whoever of the run has it gives the bad chunks once
more. So a bit that flipped costs a moment, not the node's part in the run, and nobody is taken for a liar for it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from node.network.bulk.bulk import Bulk
from node.run.no_room import is_no_room
from node.run.round_blobs import RoundBlobs
from node.seams import Disk
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_BYTES_MAX
from protocol.run.checkpoint import Checkpoint
from tracker.blobs.chunks import blob_id_of_data

T = TypeVar("T")

Offload = Callable[[Callable[[], Any]], Awaitable[Any]]

AGAIN_S = 5.0  # between tries; others may be starting again just now
TRIES = 6  # half a minute: whoever waits for us then goes on without us


class RunBlobs:
    """One run's blobs, as they are read, and those that are there for a round alone: claimed in `of_rounds` as `user`.
    `warn` is told, in words, what was damaged and how that went; `offload` as Trainer.offload."""

    def __init__(
        self, disk: Disk, bulk: Bulk, warn: Callable[[str], None], offload: Offload, of_rounds: RoundBlobs, user: str
    ) -> None:
        self._disk = disk
        self._bulk = bulk
        self.warn = warn
        self._offload = offload
        self._of_rounds = of_rounds
        self._user = user
        self._fetching: set[BlobId] = set()  # several readers of one blob are told of once

    async def put(self, data: bytes | Path) -> BlobId:
        """Store bytes, or a file, which is given away: it is moved, and gone."""
        if isinstance(data, Path):
            return (await self._disk.take_blob(data)).blob
        return await self._disk.put_blob(data)

    async def put_as(self, blob: BlobId, data: bytes | Path) -> bool:
        """Store as `put`, if that gives `blob`; else nothing is stored."""
        if isinstance(data, Path):
            return (await self._disk.take_blob(data, only_as=blob)).blob == blob
        return blob_id_of_data(data) == blob and await self._disk.put_blob(data) == blob

    async def put_for_a_round(self, data: bytes | Path, round_number: int, *, may_change: bool = False) -> BlobId:
        """Store, as `put`, what this run does not need once the round is over, and claim it for that long.
        `may_change`: whoever made the file may have it open still."""
        if isinstance(data, Path):
            async with self._of_rounds.storing(self._user, round_number) as stored:
                taken = await self._disk.take_blob(data, may_change=may_change)
                stored(taken.blob, taken.is_new)
            return taken.blob
        await self.claim(await self._offload(partial(blob_id_of_data, data)), round_number)
        return await self._disk.put_blob(data)

    async def claim(self, blob: BlobId, round_number: int) -> bool:
        """Claim what is about to be had for a round. Whether it is here already."""
        return await self._of_rounds.claim(self._user, blob, round_number)

    async def give_up(self, *, until: int | None = None, but: Set[str] = frozenset()) -> None:
        """See RoundBlobs.give_up."""
        await self._of_rounds.give_up(self._user, until=until, but=but)

    @property
    def claimed(self) -> Mapping[str, int]:
        """What this run works with for rounds, each with the newest of them."""
        return self._of_rounds.claims_of(self._user)

    async def of_checkpoint(self, checkpoint: Checkpoint, blob: str) -> bytes | Path:
        """A blob of a checkpoint that was whole here once; its roster has it too. As Disk.blob_data.

        Raises FednodeError when it is bad here, and nobody gave it."""
        kinds = {checkpoint.model: "the model", checkpoint.server_state: "the server optimizer's state"}
        what = f"{kinds.get(blob, 'the tensor schema')} of round {checkpoint.round}"
        return await self.data(BlobId(blob), what, map(NodeId, checkpoint.roster))

    async def data(self, blob: BlobId, what: str, holders: Iterable[NodeId]) -> bytes | Path:
        """A blob, as Disk.blob_data gives it. `what` it is, for people."""
        try:
            return await self._disk.blob_data(blob)
        except FednodeError as error:
            if blob in self._fetching:
                return await self._again(blob, list(holders), error)
            self._fetching.add(blob)
            self.warn(f"{what} cannot be read here: {error.what}. It is fetched again from the others")
            try:
                found = await self._again(blob, list(holders), error)
            finally:
                self._fetching.discard(blob)
            self.warn(f"{what} is whole again")
            return found

    async def _again(self, blob: BlobId, holders: list[NodeId], why: FednodeError) -> bytes | Path:
        for tries_left in reversed(range(TRIES)):
            try:
                await self._bulk.fetch(blob, holders, BLOB_BYTES_MAX)
                return await self._disk.blob_data(blob)
            except FednodeError as error:
                if not tries_left:
                    if is_no_room(error):
                        raise
                    what = f"{why.what}, and could not be fetched again: {error.what}"
                    raise FednodeError(what, remedy=why.remedy) from why
                await trio.sleep(AGAIN_S)
        raise AssertionError("the last try ends above")


async def both(first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[T]]) -> tuple[T, T]:
    """Do two things at once. Raises what one of them raises when both are over."""
    found: list[T] = []
    failures: list[FednodeError] = []

    async def in_background() -> None:
        try:
            found.append(await second())
        except FednodeError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_background)
        try:
            found.insert(0, await first())
        except FednodeError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return found[0], found[1]
