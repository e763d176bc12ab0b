"""A real node's watch over its peers: it records their comings and goings, keeps what they announce of their machines,
and measures the links to them. Simulated nodes have no such watch.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from node.api.views import is_here
from node.record.node_states import STOPPED, Entry, NodeStates, start_entry
from protocol.errors import FednodeError
from protocol.keys import NodeId
from tracker.tables.rows import StatusRow

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.node")

LOOK_EVERY_S = 5.0  # at each node of our groups, a few microseconds a node


async def watch_peers(node: "Node") -> None:
    """Watch over the peers of `node` until cancelled. That it began and ended is recorded too."""
    recorded = await _recorded_states(node)
    me = node.identity.node_id
    states = NodeStates({peer: last for peer, last in recorded.items() if peer != me}, node.now())
    _record(node, start_entry(me, recorded))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.peer_links.run, node.hub, lambda: node.groups.connected, node.service.mark_peer)
        try:
            while True:
                _look(node, states)
                await trio.sleep(LOOK_EVERY_S)
        finally:
            _record(node, Entry(me, STOPPED, ""))


async def _recorded_states(node: "Node") -> Mapping[str, tuple[str, float]]:
    """The newest that was recorded of each node; nothing where the record cannot be read, which the log then says."""
    try:
        rows = await node.record.query("node_states", newest=1)
    except FednodeError as error:
        log.error("who was here before is not known: %s", error)
        return {}
    return {row["node_id"]: (row["state"], row["at"]) for row in rows}


def _look(node: "Node", states: NodeStates) -> None:
    now, here = node.now(), {}
    for place in node.groups.places.values():
        for peer in place.state().nodes:
            here[NodeId(peer)] = False
            if (heard := place.book.last(NodeId(peer))) is not None:
                node.peer_history.take(heard, now - (trio.current_time() - heard.heard_at))
    here.pop(node.identity.node_id, None)
    entries = states.look([(peer, is_here(node, peer)) for peer in here], now)
    for entry in entries:
        _record(node, entry)
        node.service.mark_peer(NodeId(entry.node))
    node.service.mark_peer(node.identity.node_id)  # its capacity has changed


def _record(node: "Node", entry: Entry) -> None:
    what = (entry.node, entry.state, entry.reason, 0, node.now(), node.runs.numbers(), node.identity.node_id)
    node.record.add(StatusRow("", *what))
