"""Updates that travel while they are coded (docs/protocol.md §8.29): ours, for the aggregator; and others', for us.

Decides that nothing depends on it. What has come waits, under no blob's name, for the signed offer; what goes wrong
here is left to the fetch that the offer leads to.
"""

from collections.abc import Callable
from contextlib import suppress

import trio

from node.network.bulk.bulk import Bulk
from node.network.bulk.early import Early, EarlyFetch
from node.seams import CodedFile, Disk, EarlyWriter
from protocol.errors import FednodeError
from protocol.keys import BlobId, Hash, NodeId
from protocol.limits import EARLY_BYTES_MIN
from protocol.run.checkpoint import Offer
from protocol.run.early import early_name
from protocol.run.events import FetchEarly
from protocol.run.gathering import Gathering


class OwnEarly:
    """The update that our task is coding, or has coded: node.seams.CodedUpdate. `began` is told once it can be had."""

    def __init__(self, run: str, me: NodeId, bulk: Bulk) -> None:
        self.name: BlobId | None = None  # that it can be asked for by
        self.round = 0
        self.began: Callable[[int, Hash], None] = lambda round_number, base: None
        self._run = run
        self._me = me
        self._bulk = bulk
        self._expected: Hash | None = None
        self._early: Early | None = None

    def expect(self, round_number: int, base: Hash) -> None:
        """A training of this round begins."""
        self.end()
        self.round, self._expected = round_number, base

    def begin(self, size: int, file: CodedFile) -> None:
        if self._expected is None or self._early is not None or size < EARLY_BYTES_MIN:
            file.close()
            return
        self._early = Early(size, file)
        self.name = early_name(self._run, self.round, self._expected, self._me)
        self._bulk.give_early(self.name, self._early)
        self.began(self.round, self._expected)

    def grew(self, upto: int) -> None:
        if self._early is not None:
            self._early.grew(upto)

    def whole(self) -> None:
        """The training is over: all of it is coded, whatever was heard of that."""
        if self._early is not None:
            self._early.grew(self._early.size)

    def end(self) -> None:
        """Nobody may have it like this any more: it was given up, or its round is over."""
        if self.name is not None:
            self._bulk.end_early(self.name)
        self.name = self._early = self._expected = None


class _Coming:
    """What comes from one node."""

    def __init__(self, learned_from: str) -> None:
        self.learned_from = learned_from
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.fetch: EarlyFetch | None = None
        self.writer: EarlyWriter | None = None


class OthersEarly:
    """What came of the updates of the round that we aggregate. `kinds`: what each blob is that is on its way here."""

    def __init__(self, disk: Disk, bulk: Bulk, kinds: dict[BlobId, str]) -> None:
        self._disk = disk
        self._bulk = bulk
        self._kinds = kinds
        self._coming: dict[NodeId, _Coming] = {}
        self._gathering: Gathering | None = None  # the round that we aggregate

    async def only_for(self, gathering: Gathering | None) -> None:
        """To be told after all that happens in the run: this round is gathered now, or none. What it has no use for is
        dropped."""
        self._gathering = gathering
        for node, coming in list(self._coming.items()):
            if not self._is_of_use(node, coming.learned_from) and self._coming.get(node) is coming:
                await self._drop(node)

    async def fetch(self, wanted: FetchEarly, size: int) -> None:
        """Fetch what there is of an update that will have `size` bytes, until its offer comes, or it is dropped."""
        if size < EARLY_BYTES_MIN:
            return
        while self._is_to_come(wanted) and wanted.node in self._coming:
            await self._drop(wanted.node)
        if not self._is_to_come(wanted):
            return
        coming = self._coming[wanted.node] = _Coming(wanted.learned_from)
        self._kinds[wanted.name] = "update"
        try:
            with coming.scope, suppress(FednodeError):  # no room, say: there may be by the time of the offer
                coming.writer = await self._disk.receive_early(size)
                coming.fetch = await self._bulk.early_fetch(wanted.name, wanted.node, size, coming.writer)
                await coming.fetch.run()
        finally:
            self._kinds.pop(wanted.name, None)
            coming.done.set()

    async def offered(self, offer: Offer, *, is_here: bool) -> None:
        """The signed offer has come. Where the update is not here already, what came of it before is what is here of
        it: to be proven, chunk by chunk, by whoever fetches it."""
        coming = self._coming.get(NodeId(offer.node))
        if coming is None or coming.fetch is None or is_here or coming.learned_from != offer.base:
            await self._drop(NodeId(offer.node))
            return
        coming.fetch.stop()
        await coming.done.wait()
        if self._coming.get(NodeId(offer.node)) is coming and coming.writer is not None:
            del self._coming[NodeId(offer.node)]
            with trio.CancelScope(shield=True), suppress(FednodeError):  # else nobody would delete it
                await coming.writer.become(BlobId(offer.update))

    def _is_of_use(self, node: NodeId, learned_from: str) -> bool:
        gathering = self._gathering
        return gathering is not None and gathering.early_bytes_are_of_use(node, Hash(learned_from))

    def _is_to_come(self, wanted: FetchEarly) -> bool:
        """Whether the round still has use for it, and its offer has not come meanwhile."""
        is_offered = self._gathering is not None and wanted.node in self._gathering.offers
        return self._is_of_use(wanted.node, wanted.learned_from) and not is_offered

    async def _drop(self, node: NodeId) -> None:
        coming = self._coming.pop(node, None)
        if coming is None:
            return
        coming.scope.cancel()
        with trio.CancelScope(shield=True), suppress(FednodeError):  # as long as the disk takes: nobody else deletes it
            await coming.done.wait()
            if coming.writer is not None:
                await coming.writer.abandon()
