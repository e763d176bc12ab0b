"""What lies between simulated nodes: when something sent now arrives, what is broken, and the agenda of virtual time.

Nothing here knows of streams or nodes' insides. All chance comes from the one `Random` that is handed in, and nothing
depends on the order of a set, so that the same seed gives the same run.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

import trio

from protocol.keys import NodeId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

Pair = tuple[NodeId, NodeId]

# What falls into one tick happens at one instant: of a thousand messages that come within milliseconds, each would else
# have the clock stop for it, which costs more than the message.
TICKS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class WireProfile:
    """One direction between two nodes. The default is a fair line between two hospitals."""

    latency_s: float = 0.02
    jitter_s: float = 0.005  # added to the latency, uniformly between nothing and this
    bytes_per_s: float = 50e6
    stream_break_probability: float = 0.0  # of a stream, at each frame
    gossip_loss_probability: float = 0.0
    gossip_duplicate_probability: float = 0.0
    gossip_delay_s: float = 0.05  # added to each receiver's latency, uniformly; later messages overtake earlier ones


class Wire(Enum):
    """The state of one direction."""

    OPEN = "open"
    CUT = "cut"  # an error, at once
    SILENT = "silent"  # a black hole: no error, nothing arrives


class Agenda:
    """What happens when, in virtual time. Whatever falls on one instant happens in the order in which it was added."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._sleep = trio.CancelScope()

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Do `do`, which must not raise, at `time`, or at the next whole tick."""
        self._count += 1
        time = math.ceil(time * TICKS_PER_S) / TICKS_PER_S
        heapq.heappush(self._entries, (time, self._count, do))
        if time < self._sleep.deadline:
            self._sleep.deadline = time

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while self._entries and self._entries[0][0] <= trio.current_time():
                heapq.heappop(self._entries)[2]()
            with trio.CancelScope(deadline=self._entries[0][0] if self._entries else math.inf) as self._sleep:
                await trio.sleep_forever()


class Wires:
    """The wires between all nodes: their profiles and their faults."""

    def __init__(self, random: Random, profile: WireProfile) -> None:
        self._random = random
        self._default = profile
        self._profiles: dict[Pair, WireProfile] = {}
        self._free_at: dict[Pair, float] = {}
        self._faults: dict[Pair, Wire] = {}
        self._no_dialling: dict[Pair, None] = {}
        self._group_of: dict[NodeId, int] = {}
        self._between_groups = Wire.OPEN
        self._frozen: dict[NodeId, None] = {}

    def profile(self, source: NodeId, target: NodeId) -> WireProfile:
        return self._profiles.get((source, target), self._default)

    def set_profile(self, source: NodeId, target: NodeId, profile: WireProfile) -> None:
        self._profiles[source, target] = profile

    def arrival(self, source: NodeId, target: NodeId, size: int, now: float) -> float:
        """When `size` bytes sent now are all there. They wait for what was sent before them on this wire."""
        profile = self.profile(source, target)
        free_at = max(now, self._free_at.get((source, target), 0.0)) + size / profile.bytes_per_s
        self._free_at[source, target] = free_at
        return free_at + profile.latency_s + profile.jitter_s * self._random.random()

    def gossip_arrivals(self, source: NodeId, target: NodeId, now: float) -> list[float]:
        """When a gossip message reaches `target`: never, once, or twice."""
        profile, random = self.profile(source, target), self._random.random
        if profile.gossip_loss_probability and random() < profile.gossip_loss_probability:
            return []
        twice = profile.gossip_duplicate_probability and random() < profile.gossip_duplicate_probability
        earliest = now + profile.latency_s
        return [earliest + profile.gossip_delay_s * random() for _ in range(2 if twice else 1)]

    def breaks(self, source: NodeId, target: NodeId) -> bool:
        """Whether a stream breaks by itself at this frame."""
        probability = self.profile(source, target).stream_break_probability
        return probability > 0 and self._random.random() < probability

    def state(self, source: NodeId, target: NodeId) -> Wire:
        if not (self._faults or self._group_of or self._frozen):
            return Wire.OPEN
        if source in self._frozen or target in self._frozen:
            return Wire.SILENT
        if self.are_parted(source, target):
            return self._between_groups
        return self._faults.get((source, target), Wire.OPEN)

    def are_parted(self, one: NodeId, other: NodeId) -> bool:
        """Whether the two are in different groups of a partition. Who is in none is with everybody."""
        group, other_group = self._group_of.get(one), self._group_of.get(other)
        return group is not None and other_group is not None and group != other_group

    def may_dial(self, source: NodeId, target: NodeId) -> bool:
        return (source, target) not in self._no_dialling

    def set_state(self, source: NodeId, target: NodeId, state: Wire) -> None:
        if state is Wire.OPEN:
            self._faults.pop((source, target), None)
        else:
            self._faults[source, target] = state

    def forbid_dialling(self, source: NodeId, target: NodeId) -> None:
        self._no_dialling[source, target] = None

    def partition(self, groups: Sequence[Sequence[NodeId]], state: Wire) -> None:
        self._group_of = {node: number for number, group in enumerate(groups) for node in group}
        self._between_groups = state

    def freeze(self, node: NodeId) -> None:
        self._frozen[node] = None

    def thaw(self, node: NodeId) -> None:
        self._frozen.pop(node, None)

    def heal(self) -> None:
        """Every wire is open again, and everybody thawed."""
        self._faults.clear()
        self._no_dialling.clear()
        self._group_of.clear()
        self._frozen.clear()
