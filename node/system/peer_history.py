"""How other nodes' machines were, as far as they announced it: once in a minute, or slower in large groups.

It lies in memory, bounded, and is gone with a restart. Our own machine is measured and recorded by node.system.metrics.
"""

from collections import deque
from typing import NamedTuple

from protocol.group.presence import Capacity, Heard
from protocol.keys import NodeId

ANNOUNCEMENTS_KEPT = 90  # of each node: an hour and a half where one comes in a minute
NODES_KEPT_MAX = 512  # whose announcements are kept, of those heard last: 46,000 in all, some 10 MB


class Told(NamedTuple):
    """What a node announced of its machine, and when it was heard, in seconds since 1970."""

    time: float
    capacity: Capacity


class PeerHistory:
    """The announcements of the last while."""

    def __init__(self) -> None:
        self._told: dict[NodeId, deque[Told]] = {}
        self._newest: dict[NodeId, int] = {}

    def take(self, heard: Heard, time: float) -> None:
        """Note an announcement, unless it is here already."""
        node, sequence = NodeId(heard.presence.node_id), heard.presence.sequence
        if self._newest.get(node) == sequence:
            return
        self._newest[node] = sequence
        told = self._told.pop(node, None) or deque(maxlen=ANNOUNCEMENTS_KEPT)
        told.append(Told(time, heard.presence.capacity))
        self._told[node] = told
        while len(self._told) > NODES_KEPT_MAX:
            longest_ago = next(iter(self._told))
            del self._told[longest_ago], self._newest[longest_ago]

    def of(self, node: NodeId) -> list[Told]:
        """What is known of the node, the oldest first."""
        return list(self._told.get(node, ()))
