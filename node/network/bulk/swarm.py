"""Fetching the chunks of one blob from many at once: whoever is known to have some, until all are here.

Those who are after the blob too are told of by those who are asked, and each says itself what it has. A source that
lies, stalls or refuses is dropped, and others take its place.
"""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

import trio

from node.network.bulk import wire as bulk_wire
from node.network.bulk.board import Board, Use
from node.network.bulk.pace import Pace
from node.network.bulk.source import LINE_S_MAX, PIPELINE_REQUESTS, Asked, BlobSource
from node.seams import Disk, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S
from tracker.blobs.chunks import chunk_length

log = logging.getLogger("fednode.bulk")

NAMED_AT_ONCE = 4  # sources that the caller named: more divide the same line among more connections …
# … and with those who are after the blob too, who each have but some of it. In 100 simulated nodes at 10 Mbit/s eight
# leave some lines idle that nobody knows of (2.7 times one copy's time instead of 2.1); more bring only more talk.
SOURCES_AT_ONCE = 12
SOURCES_KNOWN_MAX = 64  # of one blob, dropped ones and all: a peer can name any number
UNDER_WAY_MAX = 8  # chunks asked for at once, of all sources: two that are slow leave four places to the others
NEWS_GAP_S = 0.05  # between two questions for news: what has come meanwhile is told together
LOOK_AGAIN_S = 2.0  # whether more sources are wanted, where a source has all and so no news
WATCH_S = 1.0  # how often it is looked whether all stands still
STILL_S = 3 * BLOB_STALL_S  # nothing came for so long, and nobody owes us anything: nobody has the rest
TRIES = 2  # of a source whose stream ended: it may only have restarted, or have let an idle stream go
FAILURES_TOLD_MAX = 16  # in one sentence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Means:
    """What a fetch works with. `may_read`: whether a blob is for a peer. `source_of` gives a peer to ask; `came` is
    told of every chunk that came, from whom, of which blob, how many bytes; `changed` that there is more of a blob to
    be given."""

    me: NodeId
    disk: Disk
    may_read: Callable[[NodeId, BlobId], bool]
    source_of: Callable[[NodeId], BlobSource]
    came: Callable[[NodeId, BlobId, int], None]
    changed: Callable[[BlobId], None]
    pace: Pace
    random: Random


class Swarm:
    """The sources of one blob while it comes.

    Args:
        named: whom to ask beside the first, the preferred first.
        failures: where it is written why a source was dropped.
    """

    def __init__(self, means: Means, board: Board, named: Sequence[NodeId], failures: list[str]) -> None:
        self._means = means
        self._board = board
        self._failures = failures
        self._named = deque(named)
        self._told: deque[NodeId] = deque()
        self._tries: Counter[NodeId] = Counter({means.me: TRIES})
        self._uses: dict[NodeId, Use] = {}
        self._nursery: trio.Nursery | None = None
        self._over = trio.Event()
        self._failure: FednodeError | None = None
        self._moved_at = trio.current_time()
        self._bytes_of: dict[NodeId, int] = {}

    async def run(self, first: BlobSource, news: bytes) -> NodeId | None:
        """Have all chunks come, and the blob whole here. `news`: what `first` said with the chunk list.

        Gives who gave most of it; nobody where it was here already. Raises FednodeError."""
        while self._board.missing or not await self._board.finish():
            self._over = trio.Event()
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._watch)
                self._begin(first, news)
                self._fill()
                await self._over.wait()
                self._nursery.cancel_scope.cancel()
            self._nursery = None
            if self._failure is not None:
                raise self._failure
        return max(self._bytes_of, key=lambda peer: self._bytes_of[peer], default=None)

    @property
    def only_source(self) -> NodeId | Literal[""]:
        return next(iter(self._uses)) if len(self._uses) == 1 else ""

    # --- sources -------------------------------------------------------------------------------------------------
    def also_from(self, peers: Sequence[NodeId]) -> None:
        """Ask these at once, and everybody anew for what is on its way."""
        self._board.disown()
        for peer in peers:
            self._begin(self._means.source_of(peer))
        self._schedule()

    def told(self, peers: Sequence[NodeId]) -> None:
        """These have the blob, or are after it."""
        for peer in peers:
            if peer in self._named:
                self._named.remove(peer)
            if peer in self._uses or peer in self._told or self._tries[peer] >= TRIES:
                continue
            # A peer can name anybody: those who cannot have it are not asked, and take nobody's place.
            if not self._means.may_read(peer, self._board.blob):
                continue
            if self._tries[peer] or len(self._tries) + len(self._told) < SOURCES_KNOWN_MAX:
                self._told.append(peer)
        self._fill()

    def _fill(self) -> None:
        """Ask others, where there is room: first those who are known to have something."""
        if self._nursery is None:
            return
        while self._told and len(self._uses) < SOURCES_AT_ONCE:
            self._begin(self._means.source_of(self._told.popleft()))
        while self._named and len(self._uses) < NAMED_AT_ONCE:
            self._begin(self._means.source_of(self._named.popleft()))
        if not self._uses:
            self._end(nobody_gave(self._board.blob, self._failures))

    def _begin(self, source: BlobSource, news: bytes = b"") -> None:
        if source.peer not in self._uses and self._nursery is not None and not self._over.is_set():
            self._tries[source.peer] += 1
            use = self._uses[source.peer] = Use(source)
            self._nursery.start_soon(self._use, use, news)

    async def _use(self, use: Use, news: bytes) -> None:
        """Hear what a source has, and have it asked for chunks, until it fails."""
        try:
            async with trio.open_nursery() as use.nursery:
                await self._listen(use, news)
        finally:
            use.nursery = None
            del self._uses[use.source.peer]
            self._board.forget(use)
            use.source.tell(bulk_wire.LEAVE, self._board.blob)
        self._fill()
        self._schedule()

    async def _listen(self, use: Use, news: bytes) -> None:
        gap_s = NEWS_GAP_S
        try:
            if news:
                self._heard(use, bulk_wire.read_news(news, len(self._board.chunk_hashes)))
            while True:
                wanted = 0 if self._told else max(0, SOURCES_AT_ONCE - len(self._uses))
                if use.is_whole and not wanted:
                    await trio.sleep(LOOK_AGAIN_S)
                    continue
                before = (use.cursor, use.is_whole, len(self._told), len(self._uses))
                self._heard(use, await self._next_news(use, wanted))
                is_new = before != (use.cursor, use.is_whole, len(self._told), len(self._uses))
                gap_s = NEWS_GAP_S if is_new else min(2 * gap_s, LOOK_AGAIN_S)  # who says nothing new can wait
                await trio.sleep(gap_s)
        except FednodeError as error:
            self._drop(use, error)

    async def _next_news(self, use: Use, wanted: int) -> bulk_wire.News:
        count = len(self._board.chunk_hashes)
        try:
            return await use.source.news(self._board.blob, count, use.cursor, wanted)
        except StreamClosed:
            return await use.source.news(self._board.blob, count, 0, wanted)  # it may have restarted with less

    def _heard(self, use: Use, news: bulk_wire.News) -> None:
        use.cursor = news.cursor
        self._board.heard(use, news.is_whole, news.chunks)
        self.told(news.peers)
        self._schedule()

    def _drop(self, use: Use, error: FednodeError) -> None:
        """It is no source any more. It verifies what it sends: bytes that are not the blob's are its own lie."""
        if use.is_dropped:
            return
        use.is_dropped = True
        if isinstance(error, RemoteProtocolError):
            self._tries[use.source.peer] = TRIES
            use.source.lied(error.what)
        elif isinstance(error, StreamClosed) and self._tries[use.source.peer] < TRIES:
            self._named.append(use.source.peer)  # it is there, and the next stream may take another way
        log.debug("%s is no source of the blob %s: %s", use.source.peer, self._board.blob, error.what)
        self._failures.append(error.what)
        if use.nursery is not None:
            use.nursery.cancel_scope.cancel()

    # --- chunks --------------------------------------------------------------------------------------------------
    def _schedule(self) -> None:
        """Ask for as many chunks as may be under way."""
        while not self._over.is_set() and self._board.under_way() < UNDER_WAY_MAX:
            for use in sorted(self._free_uses(), key=lambda use: (use.under_way + 1) * use.chunk_s):
                index = self._board.pick(use, in_order=len(self._uses) == 1)
                if index is None:
                    index = self._board.pick_again(use)
                if index is not None and use.nursery is not None:
                    self._board.claim(index, use)
                    use.nursery.start_soon(self._get, use, index)
                    break
            else:
                return

    def _free_uses(self) -> list[Use]:
        return [
            use
            for use in self._uses.values()
            if use.is_heard and not use.in_line and not use.is_dropped and use.under_way < use.at_once
        ]

    async def _get(self, use: Use, index: int) -> None:
        """One chunk of one source; or, where others are before us, one of those that it would rather give."""
        wanted: int | None = index
        is_paid = False
        while wanted is not None:
            came, line = False, None
            try:
                if not is_paid:
                    size = chunk_length(self._board.size, wanted)
                    await self._means.pace.down.take(use.source.peer, size)
                is_paid = True
                self._board.asked(wanted, use)
                answer = await self._asked(use, wanted)
                if isinstance(answer, Asked):
                    line = answer
                elif answer is not None:
                    came = await self._take(use, wanted, answer)
            finally:
                self._board.release(wanted, use, came=came)
            if line is not None and line.is_refused:  # we are in its line already, or will be told so
                return
            use.at_once = min(use.at_once + 1, PIPELINE_REQUESTS) if line is None else 1
            wanted = await self._in_line(use, line) if line is not None else None
        self._schedule()

    async def _asked(self, use: Use, index: int) -> bytes | Asked | None:
        try:
            has_choice = self._board.has_choice(use)
            return await with_a_second_try(lambda: use.source.chunk(self._board.blob, index, has_choice=has_choice))
        except FednodeError as error:
            self._drop(use, error)
            return None

    async def _in_line(self, use: Use, line: Asked) -> int | None:
        """Wait for our turn, and choose then. None: nothing is to be had there now."""
        use.in_line = True
        self._schedule()
        try:
            advice = await use.source.turn(line, len(self._board.chunk_hashes))
        except StreamClosed:
            return None  # it is asked anew
        except FednodeError as error:
            self._drop(use, error)
            return None
        finally:
            use.in_line = False
        index = self._board.pick(use, advice)
        if index is None:
            use.source.tell(bulk_wire.PASS, self._board.blob)
        else:
            self._board.claim(index, use)
        return index

    async def _take(self, use: Use, index: int, data: bytes) -> bool:
        """Write what came. A failure of the source ends its use, one of our disk ends everything."""
        blob, peer = self._board.blob, use.source.peer
        try:
            is_new = await self._board.write(index, data)
        except RemoteProtocolError as error:
            self._drop(use, error)
            return False
        except FednodeError as error:
            self._end(error)
            return False
        if is_new:
            self._moved_at = trio.current_time()
            self._bytes_of[peer] = self._bytes_of.get(peer, 0) + len(data)
            self._means.came(peer, blob, len(data))
            self._means.changed(blob)
        use.source.tell(bulk_wire.GOT, blob, index)
        if not self._board.missing:
            self._end(None)
        return True

    # --- the end -------------------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        """Ask a second time for what does not come, and give up when all stands still."""
        while True:
            await trio.sleep(WATCH_S)
            self._schedule()
            is_owed = any(use.under_way or use.in_line for use in self._uses.values())
            if trio.current_time() - self._moved_at > (LINE_S_MAX if is_owed else STILL_S):
                self._end(nobody_gave(self._board.blob, self._failures))

    def _end(self, failure: FednodeError | None) -> None:
        if not self._over.is_set():
            self._failure = failure
            self._over.set()


def nobody_gave(blob: BlobId, failures: Sequence[str]) -> FednodeError:
    return FednodeError(
        f"Nobody gave the blob {blob} ({'; '.join(failures[-FAILURES_TOLD_MAX:]) or 'nobody was named who has it'})",
        remedy="wait until a node that has it is back",
    )


async def with_a_second_try(ask: Callable[[], Awaitable[T]]) -> T:
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except StreamClosed:
            continue
    return await ask()
