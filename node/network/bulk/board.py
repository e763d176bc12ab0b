"""What of one blob is here, what is wanted, who is known to have it, and which chunk is asked of whom next.

The rarest first: of the chunks that a source has, one that the fewest of the known sources have, by lot where several
are as rare. With one source known they are taken in order. When all that is missing is on its way, the last few chunks
are asked for a second time where the first one asked takes too long.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random

import trio

from node.network.bulk.arrival import Arrival
from node.network.bulk.source import PIPELINE_REQUESTS, BlobSource
from node.seams import BlobReader, BlobWriter
from protocol.keys import BlobId
from protocol.limits import BLOB_STALL_S
from tracker.blobs.chunks import chunk_length

PICK_AMONG_MAX = 1024  # a choice costs as much as it has chunks; among so many there is a rare one
END_CHUNKS_MAX = 4  # of which a second copy may come: what is wasted at worst
ASKED_MAX = 2  # of whom one chunk is asked at the same time
# What was asked for so long ago and has not come holds up nothing any more, whatever its source says: it may be asked
# of others, and more of others beside it. A line at 1 Mbit/s takes 8 s for one.
HELD_S = BLOB_STALL_S / 2
FIRST_AT_ONCE = (
    PIPELINE_REQUESTS // 2
)  # of a source that has given nothing yet: two that are slow leave places to others
END_PATIENCE = 2.0  # times what a chunk takes here as a rule, before it is asked for a second time
_RULE_SHARE = 0.2  # of the newest chunk in what one takes "as a rule"


class Use:
    """One source of one fetch, and what it says that it has."""

    def __init__(self, source: BlobSource) -> None:
        self.source = source
        self.is_whole = False
        self.chunks: set[int] = set()
        self.is_heard = False  # before its first news it is not known what it has
        self.cursor = 0
        self.under_way = 0
        # Requests; one more for each that came, and one where others are before us, until it gives without a line.
        self.at_once = FIRST_AT_ONCE
        self.in_line = False
        self.is_dropped = False
        self.chunk_s = 0.0  # that a chunk of it takes as a rule; 0: not known yet
        self.nursery: trio.Nursery | None = None

    def has(self, index: int) -> bool:
        return self.is_whole or index in self.chunks


class _Claim:
    __slots__ = ("asked_at", "began", "use")

    def __init__(self, use: Use) -> None:
        self.use = use
        self.began = trio.current_time()
        self.asked_at: float | None = None  # not yet, while our own limit has it wait

    def is_held_up(self) -> bool:
        return self.asked_at is not None and trio.current_time() - self.asked_at >= HELD_S


class Whole:
    """A blob that is here, for giving."""

    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader
        self.size = reader.size
        self.chunk_hashes = reader.chunk_hashes
        self.came: Sequence[int] = range(len(reader.chunk_hashes))

    async def chunk(self, index: int) -> bytes:
        return await self._reader.chunk(index)


class Board:
    """The chunks of a blob on its way here. Serves as what others may be given of it, too."""

    def __init__(self, blob: BlobId, size: int, hashes: Sequence[bytes], writer: BlobWriter, random: Random) -> None:
        self.blob = blob
        self.size = size
        self.chunk_hashes = hashes
        self._writer = writer
        self._random = random
        self.missing = set(writer.missing())
        self.came = [index for index in range(len(hashes)) if index not in self.missing]  # in the order of coming
        self.done_bytes = sum(chunk_length(size, index) for index in self.came)
        self.claims: dict[int, list[_Claim]] = {}
        self._free = set(self.missing)  # what is missing and asked of nobody
        self._known = [0] * len(hashes)  # how many sources that have not all of it have each chunk
        self._chunk_s = 0.0
        self._arrivals: list[Arrival] = []

    def hand_on(self, arrival: Arrival) -> None:
        """Let somebody have the chunks in order, those that are here and those that come."""
        self._arrivals.append(arrival)
        arrival.begin(self)

    async def chunk(self, index: int) -> bytes:
        """A chunk that came. Raises FednodeError."""
        return await self._writer.chunk(index)

    async def write(self, index: int, data: bytes) -> bool:
        """Take a chunk. False: it was here already. Raises RemoteProtocolError when it is not what it should be."""
        await self._writer.write_chunk(index, data)
        if index not in self.missing:
            return False
        self.missing.discard(index)
        self._free.discard(index)
        self.came.append(index)
        self.done_bytes += len(data)
        for arrival in self._arrivals:
            arrival.came(index, data)
        return True

    async def finish(self) -> bool:
        """Make it whole. False: a chunk that had come is bad by now, and missing."""
        bad = self._writer.missing()
        if not bad:
            await self._writer.finish()
            return True
        self.missing.update(bad)
        self._free.update(bad)
        self.came = [index for index in self.came if index not in self.missing]
        return False

    # --- who has what --------------------------------------------------------------------------------------------
    def heard(self, use: Use, is_whole: bool, chunks: Iterable[int]) -> None:
        """A source says what it has, or has besides."""
        use.is_heard = True
        if is_whole and not use.is_whole:
            self.forget(use)
            use.is_whole = True
        elif not use.is_whole:
            for index in chunks:
                if index not in use.chunks:
                    use.chunks.add(index)
                    self._known[index] += 1

    def forget(self, use: Use) -> None:
        """What a source has counts no more."""
        for index in use.chunks:
            self._known[index] -= 1
        use.chunks.clear()

    # --- what to ask for -----------------------------------------------------------------------------------------
    def pick(self, use: Use, advice: Iterable[int] = (), *, in_order: bool = False) -> int | None:
        """A chunk to ask of this source that nobody is asked for: what it advises, else the rarest."""
        for index in advice:
            if index in self._free and use.has(index):
                return index
        found = self._free if use.is_whole else self._free & use.chunks
        if not found:
            return None
        if in_order:
            return min(found)
        among = list(islice(found, PICK_AMONG_MAX))
        rarest = min(self._known[index] for index in among)
        return self._random.choice([index for index in among if self._known[index] == rarest])

    def has_choice(self, use: Use) -> bool:
        """Whether this source has a chunk that is wanted and asked of nobody."""
        return bool(self._free) if use.is_whole else not self._free.isdisjoint(use.chunks)

    def pick_again(self, use: Use) -> int | None:
        """One of the last chunks, that somebody else was asked for and does not give as fast as it should; or any that
        all who were asked hold up."""
        if self._free:
            return None
        is_end = len(self.missing) <= END_CHUNKS_MAX and self._chunk_s > 0
        long_ago = trio.current_time() - END_PATIENCE * self._chunk_s if is_end else -math.inf
        for index, claims in self.claims.items():
            is_slow = len(claims) < ASKED_MAX and claims[0].began <= long_ago
            is_wanted = index in self.missing and (is_slow or all(claim.is_held_up() for claim in claims))
            if is_wanted and use.has(index) and all(claim.use is not use for claim in claims):
                return index
        return None

    def under_way(self) -> int:
        """How many chunks are on their way, as far as nobody holds them up."""
        return sum(not claim.is_held_up() for claims in self.claims.values() for claim in claims)

    def claim(self, index: int, use: Use) -> None:
        self._free.discard(index)
        self.claims.setdefault(index, []).append(_Claim(use))
        use.under_way += 1

    def asked(self, index: int, use: Use) -> None:
        """What was claimed is asked for now."""
        for claim in self.claims.get(index, []):
            if claim.use is use:
                claim.asked_at = trio.current_time()

    def release(self, index: int, use: Use, *, came: bool) -> None:
        """Nothing is on its way from there any more."""
        use.under_way -= 1
        claims = self.claims.get(index, [])
        for claim in claims:
            if claim.use is use:
                claims.remove(claim)
                if came:
                    took = trio.current_time() - claim.began
                    use.chunk_s = _as_a_rule(use.chunk_s, took)
                    self._chunk_s = _as_a_rule(self._chunk_s, took)
                break
        if not claims:
            self.claims.pop(index, None)
            if index in self.missing:
                self._free.add(index)

    def disown(self) -> None:
        """Ask anew for all that is on its way: whoever was asked may be frozen. What comes of it yet counts."""
        self.claims.clear()
        self._free.update(self.missing)


def _as_a_rule(before: float, now: float) -> float:
    return before + _RULE_SHARE * (now - before) if before else max(now, 1e-6)
