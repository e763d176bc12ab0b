"""How fast blobs may go and come: one limit each way, shared fairly by the peers that want something of it.

A limit is exact over time: whoever takes goes at once if what was granted before would have gone by now at the limit's
rate, else when it will have. So in any span of t seconds at most `rate * (t + BURST_S)` bytes are granted, and one
demand more. Among the peers that wait the one that was granted the fewest bytes is next, which is taking turns where
demands are alike (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996); arriving early, or with many demands at
once, gains nothing, and neither does having been idle.
"""

import math
from collections import deque

import trio

from protocol.keys import NodeId

BURST_S = 0.1  # of unused time can be made up for: tasks wake late on a busy machine, and the rate must not suffer


class _Demand:
    __slots__ = ("size_bytes", "woken")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.woken = trio.Event()


class Limit:
    """A rate that peers share. None is no limit, and costs nothing."""

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = -math.inf  # when all that was granted has gone, at the limit's rate
        self._waiting: dict[NodeId, deque[_Demand]] = {}
        self._granted: dict[NodeId, int] = {}  # bytes, counted on from `_turn` for whoever had nothing to ask
        self._turn = 0  # the count of the peer that was granted something last, before that

    @property
    def bytes_per_s(self) -> float | None:
        return self._bytes_per_s

    async def take(self, peer: NodeId, size_bytes: int) -> None:
        """Wait until `size_bytes` may go to, or come from, `peer`. Who is cancelled while waiting has taken nothing.
        Without a limit this is no checkpoint.

        Where many share a low limit the wait may be longer than a peer's patience (limits.BLOB_STALL_S): who serves
        has to tell the one that waits for the bytes that it is still there."""
        if self._bytes_per_s is None:
            return
        demand = _Demand(size_bytes)
        self._enter(peer, demand)
        try:
            while not self._may_go(peer, demand):
                is_next = self._is_next(peer, demand)
                with trio.move_on_at(self._free_at if is_next else math.inf):
                    await demand.woken.wait()
                demand.woken = trio.Event()
            self._grant(peer, size_bytes)
        finally:
            self._leave(peer, demand)

    def change(self, bytes_per_s: float | None) -> None:
        """Another rate from now on, for those who wait already too. What was granted is paid for at the new one."""
        now = trio.current_time()
        if self._bytes_per_s is None or bytes_per_s is None:
            self._free_at = -math.inf
        elif self._free_at > now:
            self._free_at = now + (self._free_at - now) * self._bytes_per_s / bytes_per_s
        self._bytes_per_s = bytes_per_s
        for demands in self._waiting.values():
            for demand in demands:
                demand.woken.set()

    def _enter(self, peer: NodeId, demand: _Demand) -> None:
        if not self._waiting and self._free_at <= trio.current_time():
            self._granted.clear()  # the line was free for all: what they had before is no matter
        if peer not in self._waiting:
            self._waiting[peer] = deque()
            self._granted[peer] = max(self._granted.get(peer, 0), self._turn)
        self._waiting[peer].append(demand)

    def _may_go(self, peer: NodeId, demand: _Demand) -> bool:
        if self._bytes_per_s is None:
            return True
        return self._is_next(peer, demand) and self._free_at <= trio.current_time()

    def _is_next(self, peer: NodeId, demand: _Demand) -> bool:
        return self._waiting[peer][0] is demand and self._next_peer() == peer

    def _next_peer(self) -> NodeId:
        return min(self._waiting, key=lambda peer: self._granted[peer])

    def _grant(self, peer: NodeId, size_bytes: int) -> None:
        if self._bytes_per_s is not None:
            began = max(self._free_at, trio.current_time() - BURST_S)
            self._free_at = began + size_bytes / self._bytes_per_s
        self._turn = self._granted[peer]
        self._granted[peer] += size_bytes

    def _leave(self, peer: NodeId, demand: _Demand) -> None:
        """Out of the line, granted or not, and whoever is next now has to know."""
        self._waiting[peer].remove(demand)
        if not self._waiting[peer]:
            del self._waiting[peer]
        if self._waiting:
            self._waiting[self._next_peer()][0].woken.set()
        for idle in [peer for peer, bytes_ in self._granted.items() if bytes_ <= self._turn]:
            if idle not in self._waiting:
                del self._granted[idle]


class Pace:
    """The limits of a node's bulk transfer, in bytes per second; None is no limit."""

    def __init__(self, up_bytes_per_s: float | None = None, down_bytes_per_s: float | None = None) -> None:
        self.up = Limit(up_bytes_per_s)
        self.down = Limit(down_bytes_per_s)

    def set_limits(self, up_bytes_per_s: float | None, down_bytes_per_s: float | None) -> None:
        """Change both while things are going on."""
        self.up.change(up_bytes_per_s)
        self.down.change(down_bytes_per_s)
