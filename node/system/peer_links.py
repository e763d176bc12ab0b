"""How things stand on the links to our peers: the round trip's time, and how much goes through.

Measured while somebody watches; an idle node that nobody looks at sends nothing. A round trip is that of a message and
its answer on the links that the runs use (docs/protocol.md §5.14): what it tells is what a run feels. Rates are the
differences between two looks at the network's counters.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio

from node.api.hub import Hub
from node.network.links import Links
from node.seams import Network, PeerTraffic
from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import PING_BYTES

PING_CHANNEL, PONG_CHANNEL = "ping", "pong"
LOOK_EVERY_S = 5.0  # four messages a peer cost some 4 CPU-ms: of twelve peers 1 % of a core, while somebody watches
ANSWER_DEADLINE_S = 15.0  # a later answer tells how long something hung, and not how long the way is
STALE_S = 3 * LOOK_EVERY_S  # figures of the time before somebody looked again are not shown
_STEP = 1.25  # figures that differ by less look alike, and the watchers are spared the news


@dataclass(slots=True)
class _Link:
    """What is known of the link to one peer. Times by trio's clock."""

    traffic: PeerTraffic
    looked_at: float
    sent_per_s: float | None = None
    received_per_s: float | None = None
    asked: tuple[bytes, float] | None = None  # what the newest ping carried, and when it was sent
    rtt: float | None = None
    rtt_at: float = -math.inf
    told: tuple[object, ...] = ()


class PeerLinks:
    """Measures links, answers those who measure theirs to us, and tells what is known.

    Args:
        random_bytes: gives so many bytes that nobody can foresee.
    """

    def __init__(self, network: Network, links: Links, random_bytes: Callable[[int], bytes]) -> None:
        self._network = network
        self._links = links
        self._random_bytes = random_bytes
        self._known: dict[NodeId, _Link] = {}

    async def run(self, hub: Hub, connected: Callable[[], Iterable[NodeId]], changed: Callable[[NodeId], None]) -> None:
        """Measure until cancelled, as long as somebody watches; `changed` is told whose figures look different."""
        while True:
            await hub.watched()
            for peer in self.look(connected()):
                changed(peer)
            await trio.sleep(LOOK_EVERY_S)

    def look(self, connected: Iterable[NodeId]) -> list[NodeId]:
        """Read the counters and send a ping to each peer; of all others nothing is remembered. Gives the peers whose
        figures differ visibly from those given before."""
        open_links = {status.peer for status in self._links.status() if status.connected}
        before, self._known = self._known, {}
        different = []
        for peer in sorted(connected):
            link = self._known[peer] = self._counted(peer, before.get(peer))
            if peer in open_links and (link.asked is None or self._is_overdue(link.asked)):
                self._ask(peer, link)
            shown = (link.traffic.path, *map(_step, (self._rtt_of(link), link.sent_per_s, link.received_per_s)))
            if shown != link.told:
                link.told = shown
                different.append(peer)
        return different

    def _counted(self, peer: NodeId, link: _Link | None) -> _Link:
        now, traffic = trio.current_time(), self._network.traffic(peer)
        if link is None:
            return _Link(traffic, now)
        passed = now - link.looked_at
        if 0 < passed < STALE_S:
            link.sent_per_s = max(0, traffic.bytes_sent - link.traffic.bytes_sent) / passed
            link.received_per_s = max(0, traffic.bytes_received - link.traffic.bytes_received) / passed
        else:
            link.sent_per_s = link.received_per_s = None
        link.traffic, link.looked_at = traffic, now
        return link

    def _is_overdue(self, asked: tuple[bytes, float]) -> bool:
        return trio.current_time() - asked[1] > ANSWER_DEADLINE_S

    def _ask(self, peer: NodeId, link: _Link) -> None:
        nonce = self._random_bytes(PING_BYTES)
        link.asked = nonce, trio.current_time()
        self._links.send(peer, PING_CHANNEL, nonce, PING_CHANNEL)

    def on_ping(self, peer: NodeId, payload: bytes) -> None:
        """Answer a peer that measures. Raises RemoteProtocolError."""
        _check(peer, payload)
        self._links.send(peer, PONG_CHANNEL, payload, PONG_CHANNEL)

    def on_pong(self, peer: NodeId, payload: bytes) -> None:
        """Take an answer in; one that was not asked for, or comes too late, counts for nothing. Raises
        RemoteProtocolError."""
        _check(peer, payload)
        link = self._known.get(peer)
        if link is None or link.asked is None or link.asked[0] != payload:
            return
        (_, asked_at), link.asked = link.asked, None
        took = trio.current_time() - asked_at
        if took <= ANSWER_DEADLINE_S:
            link.rtt, link.rtt_at = took, trio.current_time()

    def _rtt_of(self, link: _Link) -> float | None:
        return link.rtt if trio.current_time() - link.rtt_at < STALE_S + ANSWER_DEADLINE_S else None

    def view(self, peer: NodeId) -> dict[str, Any]:
        """The `link` of docs/api.md's PEER. What nobody measured lately is None."""
        link, traffic = self._known.get(peer), self._network.traffic(peer)
        fresh = link if link is not None and trio.current_time() - link.looked_at < STALE_S else None
        rtt = self._rtt_of(fresh) if fresh else None
        return {
            "rtt_s": rtt if rtt is None else round(rtt, 6),
            "bytes_sent": traffic.bytes_sent,
            "bytes_received": traffic.bytes_received,
            "sent_per_s": fresh.sent_per_s if fresh else None,
            "received_per_s": fresh.received_per_s if fresh else None,
            "path": traffic.path,
            "blobs_by": traffic.blobs_by,
        }


def _check(peer: NodeId, payload: bytes) -> None:
    if len(payload) != PING_BYTES:
        raise RemoteProtocolError(f"{peer} sent a ping of {len(payload)} bytes instead of {PING_BYTES}")


def _step(value: float | None) -> int | None:
    """On which step of a ladder that grows by _STEP a figure stands."""
    return None if value is None else round(math.log(max(value, 1e-6), _STEP))
