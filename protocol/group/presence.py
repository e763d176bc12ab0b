"""Presence: what a node announces about itself now and then, and the book that its peers keep of it.

Announcements are signed, so gossip may carry them; one that is not newer than the last is a replay, and refused.
Rules: docs/protocol.md §5.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import GroupIdText, Name, NodeIdText, RunIdText, Seconds
from protocol.group.address_record import RawAddressRecord, open_address_record
from protocol.group.state import GroupState
from protocol.keys import GroupId, NodeId
from protocol.limits import PRESENCE_BYTES_MAX, PRESENCE_S, PRESENCE_STALE_S
from protocol.signing import Signed, open_signed, sign
from protocol.wire import Wire

PRESENCE_TAG = "presence"
GPUS_MAX = 16  # in one machine
RUNS_SHOWN_MAX = 64  # open at one node; whoever has more shows the newest
# Each announcement costs every node one delivery. Up to so many nodes the interval stands; beyond, it grows with them,
# so that every node takes in at most one announcement in 1.2 s.
_NODES_AT_FULL_RATE = 50
_REMEMBERED_ANNOUNCEMENTS = 512  # the nodes of a simulation hear the very same; some 3 KB each

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Capacity(Wire):
    """What the machine has. Memory and disk in bytes; `load_1m` as the system's load average."""

    cpu_cores: Annotated[int, Field(ge=0, le=65536)]
    memory_bytes: Count
    memory_free_bytes: Count
    disk_free_bytes: Count
    gpus: Annotated[tuple[Name, ...], Field(max_length=GPUS_MAX)] = ()
    load_1m: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Presence(Wire):
    """`sequence` never goes back while the node runs: begin at the clock's milliseconds.

    `where`: the node's address record, whose sequence comes first in what is newer, for it is remembered over restarts.
    `announced_at`: the announcer's clock, seconds; for people to read. `data_sets`: how many, never which."""

    node_id: NodeIdText
    group: GroupIdText
    name: Name
    version: Name
    where: RawAddressRecord
    capacity: Capacity
    runs: Annotated[tuple[RunIdText, ...], Field(max_length=RUNS_SHOWN_MAX)]
    data_sets: Count
    announced_at: Seconds
    sequence: Count


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement, and when it came by the hearer's own clock: the announcer's may be wrong."""

    presence: Presence
    heard_at: float


def interval_s(nodes: int) -> float:
    """How long a node waits between announcements in a group of `nodes`: what each node takes in stays bounded."""
    return PRESENCE_S * max(1.0, nodes / _NODES_AT_FULL_RATE)


def stale_after_s(nodes: int) -> float:
    """How long after an announcement its node counts as gone: three intervals and some slack."""
    return PRESENCE_STALE_S / PRESENCE_S * interval_s(nodes)


def announce(key: Ed25519PrivateKey, presence: Presence) -> bytes:
    """The announcement, for gossip. `presence.node_id` must be the node whose key is `key`."""
    return sign(key, PRESENCE_TAG, presence)


@lru_cache(maxsize=_REMEMBERED_ANNOUNCEMENTS)
def _open(raw: bytes) -> Signed[Presence]:
    return open_signed(Presence, raw, PRESENCE_TAG, PRESENCE_BYTES_MAX)


def group_of(raw: bytes) -> GroupId:
    """Which group an announcement is for. Raises RemoteProtocolError."""
    return _open(raw).body.group


def _sequences(presence: Presence) -> tuple[int, int]:
    """What orders a node's announcements: its address record's sequence, which outlives restarts, then their own."""
    return open_address_record(presence.where).sequence, presence.sequence


class PresenceBook:
    """The last that was heard of every node of one group."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._heard: dict[NodeId, Heard] = {}  # bounded by the group's nodes

    def hear(self, raw: bytes, state: GroupState, *, now: float) -> Presence:
        """Note an announcement. `now`: the hearer's monotonic clock, seconds.

        Raises:
            RemoteProtocolError: it is malformed, forged or of another group.
            Refused: code not-a-member, or stale-presence for one that is not newer than the last.
        """
        signed = _open(raw)
        presence = signed.body
        if signed.node_id != presence.node_id or presence.group != self._group:
            raise RemoteProtocolError(f"Node {signed.node_id} announced another node, or another group")
        if open_address_record(presence.where).node_id != presence.node_id:
            raise RemoteProtocolError(f"Node {signed.node_id} announced where another node is")
        if not state.admits(presence.node_id):
            raise Refused(
                "not-a-member", f"Node {presence.node_id} is no member's", remedy="nothing to do; it is not listened to"
            )
        last = self._heard.get(presence.node_id)
        if last is not None and _sequences(presence) <= _sequences(last.presence):
            raise Refused(
                "stale-presence",
                f"An announcement of {presence.name} is not newer than the last",
                remedy="nothing to do; if it goes on, that node was started from an old copy of its home",
            )
        self._heard[presence.node_id] = Heard(presence, now)
        return presence

    def last(self, node_id: NodeId) -> Heard | None:
        """What was heard of the node last, however long ago."""
        return self._heard.get(node_id)

    def present(self, state: GroupState, *, now: float) -> list[Presence]:
        """The announcements that are not stale, of nodes that are still in the group; others are forgotten."""
        self._heard = {node: heard for node, heard in self._heard.items() if state.admits(node)}
        oldest = now - stale_after_s(len(state.nodes))
        return [heard.presence for heard in self._heard.values() if heard.heard_at >= oldest]
