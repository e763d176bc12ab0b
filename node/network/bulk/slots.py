"""Whose turn it is: who may be sent a chunk now, and who waits, so that a source's line serves all alike.

Few chunks are on their way at once, for a chunk helps nobody before all of it has come. Beyond that peers wait in
line; next is the peer that was served least recently. Who gets its turn is told which chunks were given out least, so
that the first to come get different ones, and give them to each other. A chunk is on its way until its taker says that
it came; one who takes far longer than others do holds up nobody.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from random import Random

import trio

from node.network.bulk.source import PIPELINE_REQUESTS
from node.network.bulk.wire import ADVICE_CHUNKS_MAX
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S

BRISK_CHUNKS_MAX = 3  # on their way at once to peers that take them as fast as others do …
LONE_CHUNKS_MAX = PIPELINE_REQUESTS  # … and as many as it asks for to one whom nobody waits beside
CHUNKS_MAX = 32  # on their way at once in all: 32 MiB of what the slowest have not taken …
PEER_CHUNKS_MAX = 2 * LONE_CHUNKS_MAX  # … and to one peer: who says of nothing that it came leaves most to the others
PEER_LINE_MAX = 128  # places in line of one peer: it fetches a hundred blobs at once; each costs every look at the line
# After the line has taken a chunk its taker has so long to say so, which at 0.5 Mbit/s is time for four of them. Who
# has lost interest, and who lies, says nothing.
TAKEN_S_MAX = 4 * BLOB_STALL_S
GRANT_S = 5.0  # in which a turn must be used: longer than any round trip
RULE_FIRST_S = BLOB_STALL_S / 4  # what a chunk takes, before we know
_RULE_STEP = 1.25  # by which that moves towards each new one: it follows the median, whatever a few of them say
_SLOW = 4.0  # times as long, and it counts no more among the brisk
ADVICE_AMONG_MAX = 1024  # chunks that are looked at for advice


class Place:
    """Somebody who wants chunks of a blob, of which `came` are here of `count`. In line, `called` is set when its turn
    has come, with `advice`, or when it has left."""

    def __init__(self, asker: Hashable, peer: NodeId, blob: BlobId, came: Sequence[int], count: int) -> None:
        self.asker = asker
        self.peer = peer
        self.blob = blob
        self.came = came
        self.count = count
        self.called = trio.Event()
        self.has_left = False
        self.advice: list[int] = []


class _Grant:
    def __init__(self, advised: int | None) -> None:
        self.advised = advised
        self.until = trio.current_time() + GRANT_S


class _Out:
    """A chunk on its way. What its taker says of it before we have handed it over counts only then: it takes memory."""

    __slots__ = ("given_at", "is_done", "peer", "since")

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.since = trio.current_time()
        self.given_at: float | None = None
        self.is_done = False


class Slots:
    """The chunks on their way out of here. An asker is a stream; a peer may have several, and gains nothing by it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._out: dict[tuple[Hashable, BlobId, int], _Out] = {}  # what is on its way
        self._grants: dict[tuple[Hashable, BlobId], _Grant] = {}
        self._line: dict[tuple[Hashable, BlobId], Place] = {}
        self._served: dict[NodeId, int] = {}
        self._turns = 0
        self._given: dict[BlobId, list[int]] = {}  # how often each chunk was given out
        self._rule_s = RULE_FIRST_S

    def is_in_line(self, asker: Hashable, peer: NodeId, blob: BlobId) -> bool:
        """Whether the asker waits for the blob already, or its peer for as many as it may."""
        return (asker, blob) in self._line or sum(place.peer == peer for place in self._line.values()) >= PEER_LINE_MAX

    def take(self, wanted: Place, index: int, *, can_choose: bool) -> bool:
        """Whether a chunk may be sent now; if so it is on its way. `can_choose`: where others are
        after the blob, one who would as well take another chunk is better off with one that nobody was given."""
        key = (wanted.asker, wanted.blob)
        if (before := self._out.get((*key, index))) is not None and before.given_at is None:
            return False  # it waits for the line already, in our memory: not a second time
        given = self._given.setdefault(wanted.blob, [0] * wanted.count)
        grant = self._grants.pop(key, None)
        if grant is None:
            if self._line or not self._is_free(wanted.peer):
                return False
            if can_choose and given[index] and not all(given[other] for other in wanted.came):
                return False
        elif grant.advised is not None:
            given[grant.advised] -= 1
        given[index] += 1
        self._out[*key, index] = _Out(wanted.peer)
        self._serve(wanted.peer)
        return True

    def gave(self, wanted: Place, index: int) -> None:
        """A chunk is handed over to the line."""
        out = self._out.get((wanted.asker, wanted.blob, index))
        if out is not None:
            out.given_at = trio.current_time()
            if out.is_done:
                self.failed(wanted, index)

    def failed(self, wanted: Place, index: int) -> None:
        """A chunk is not on its way after all."""
        self._out.pop((wanted.asker, wanted.blob, index), None)
        self.look()

    def came(self, asker: Hashable, blob: BlobId, indices: Iterable[int]) -> None:
        """The asker has these."""
        for index in indices:
            out = self._out.get((asker, blob, index))
            if out is not None and not out.is_done:
                took = trio.current_time() - out.since
                self._rule_s *= _RULE_STEP if took > self._rule_s else 1 / _RULE_STEP
                self._rule_s = min(max(self._rule_s, 1e-3), RULE_FIRST_S)
                self._end_out((asker, blob, index))
        self.look()

    def enter(self, place: Place) -> None:
        self._line[place.asker, place.blob] = place
        self.look()

    def pass_on(self, asker: Hashable, blob: BlobId | None) -> None:
        """The asker wants no turn any more, for one blob or for any."""
        for key in [key for key in self._line if key[0] is asker and blob in (None, key[1])]:
            place = self._line.pop(key)
            place.has_left = True
            place.called.set()
        for key in [key for key in self._grants if key[0] is asker and blob in (None, key[1])]:
            self._end_grant(key)
        self.look()

    def leave(self, asker: Hashable, blob: BlobId | None = None) -> None:
        """The asker wants nothing more, of one blob; or it is gone, and nothing is on its way to it."""
        for out in [out for out in self._out if out[0] is asker and blob in (None, out[1])]:
            if blob is None:
                del self._out[out]
            else:
                self._end_out(out)
        self.pass_on(asker, blob)

    def forget(self, blob: BlobId) -> None:
        """Nobody is after the blob any more, or gets it."""
        for asker in [asker for asker, of in self._line if of == blob]:
            self.pass_on(asker, blob)
        self._given.pop(blob, None)

    def look(self) -> None:
        """Give turns to as many as may have one."""
        now = trio.current_time()
        for key in [key for key, grant in self._grants.items() if grant.until <= now]:
            self._end_grant(key)
        taken = [(key, out.given_at) for key, out in self._out.items() if out.given_at is not None]
        for lost in [key for key, given_at in taken if given_at <= now - TAKEN_S_MAX]:
            del self._out[lost]
        while (first := self._next()) is not None:
            place = self._line.pop(first)
            place.advice = self._advice(place)
            advised = place.advice[0] if place.advice else None
            if advised is not None:
                self._given[place.blob][advised] += 1  # for whoever is next: this one is as good as gone
            self._grants[first] = _Grant(advised)
            self._serve(place.peer)
            place.called.set()
        if not self._line and not self._out:
            self._served.clear()

    def _next(self) -> tuple[Hashable, BlobId] | None:
        """Whose turn it is, if there is room for one."""
        if not self._line or not self._is_free():
            return None
        out = Counter(out.peer for out in self._out.values())
        waiting = [key for key, place in self._line.items() if out[place.peer] < PEER_CHUNKS_MAX]
        return min(waiting, key=lambda key: self._served.get(self._line[key].peer, 0), default=None)

    def _is_free(self, peer: NodeId | None = None) -> bool:
        """Whether one chunk more may be on its way: to `peer`, or to whoever is next in line."""
        if len(self._out) + len(self._grants) >= CHUNKS_MAX:
            return False
        if sum(out.peer == peer for out in self._out.values()) >= PEER_CHUNKS_MAX:
            return False
        brisk_since = trio.current_time() - _SLOW * self._rule_s
        brisk = sum(out.since >= brisk_since for out in self._out.values()) + len(self._grants)
        is_lone = not self._grants and all(out.peer == peer for out in self._out.values())
        return brisk < (LONE_CHUNKS_MAX if is_lone else BRISK_CHUNKS_MAX)

    def _serve(self, peer: NodeId) -> None:
        self._turns += 1
        self._served[peer] = self._turns

    def _advice(self, place: Place) -> list[int]:
        """The chunks that were given out least, by lot where several were as rarely."""
        given = self._given.setdefault(place.blob, [0] * place.count)
        came = place.came
        among = self._random.sample(came, ADVICE_AMONG_MAX) if len(came) > ADVICE_AMONG_MAX else list(came)
        self._random.shuffle(among)
        among.sort(key=lambda index: given[index])
        return among[:ADVICE_CHUNKS_MAX]

    def _end_out(self, key: tuple[Hashable, BlobId, int]) -> None:
        """Its taker waits for it no more. One that still waits for the line is in our memory."""
        out = self._out[key]
        out.is_done = True
        if out.given_at is not None:
            del self._out[key]

    def _end_grant(self, key: tuple[Hashable, BlobId]) -> None:
        grant = self._grants.pop(key)
        given = self._given.get(key[1])
        if grant.advised is not None and given is not None:
            given[grant.advised] -= 1
