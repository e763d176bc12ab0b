"""Faults of membership: a member that is removed, or a node that is revoked, in the middle of a run.

An owner does it, as owners do: by its own node's service. Whoever is put out may go on knocking with its key.
"""

import logging
from collections.abc import Callable, Sequence
from random import Random

import trio

from node.node import Node
from protocol.errors import FednodeError
from protocol.group.state import GroupState
from protocol.keys import NodeId
from simulations.faults.stranger import Stranger
from simulations.nodes.simulated_node import SimulatedNode
from simulations.plan.faults import Fault
from simulations.world.network import SimulatedWorld

log = logging.getLogger("fednode.simulated")

REASON = "the scenario says so"
TRY_AGAIN_S = 5.0  # where nobody can do it now: its node is down, or does not know yet that it may
TRIES_MAX = 24  # two minutes; longer than any node is down in a scenario that is over again
GOES_ON_KNOCKING_S = 2.0  # after it is out; until then its own node has heard of it, or has not


class PuttingOut:
    """Carries such faults out. `tell` is told who went on knocking under a key that was good."""

    def __init__(self, nodes: Sequence[SimulatedNode], world: SimulatedWorld, seed: int) -> None:
        self._nodes = nodes
        self._world = world
        self._seed = seed
        self.why_not: dict[Fault, str] = {}  # of faults that have not put all of their nodes out, as far as they came

    async def strike(self, fault: Fault, nursery: trio.Nursery, dies: Callable[[SimulatedNode], None]) -> None:
        """Put all nodes of the fault out. `dies` is told of a node whose key goes on under another program."""
        for number in fault.nodes:
            victim = self._nodes[number]
            if await self._put_out(fault, victim) and fault.knocks:
                await trio.sleep(GOES_ON_KNOCKING_S)
                dies(victim)
                victim.kill()
                victim.is_retired = True
                nursery.start_soon(self._haunt, victim)

    async def _put_out(self, fault: Fault, victim: SimulatedNode) -> bool:
        for _ in range(TRIES_MAX):
            for node in self._who_may(fault, victim):
                try:
                    if fault.kind == "revoke":
                        await node.service.memberships.own_nodes.revoke(victim.node_id)
                    else:
                        group = next(iter(node.groups.places))
                        await node.service.memberships.remove(group, _member_of(node, victim.node_id), REASON)
                    self.why_not.pop(fault, None)
                    return True
                except FednodeError as error:
                    log.info("%s is not put out by %s: %s", victim.name, node.identity.name, error)
                    self.why_not[fault] = error.what
            if any(_is_out(node, victim.node_id) for node in self._up()):
                self.why_not.pop(fault, None)
                return True
            if not self._who_may(fault, victim):
                self.why_not[fault] = self._why_nobody(fault, victim)
            await trio.sleep(TRY_AGAIN_S)
        return False

    def _up(self) -> list[Node]:
        return [each.node for each in self._nodes if each.node is not None]

    def _who_may(self, fault: Fault, victim: SimulatedNode) -> list[Node]:
        """The nodes that could do it, as far as they know; the one that the fault names, and else the first."""
        by = self._nodes[fault.by].node if fault.by is not None else None
        asked = [by] if by is not None else [] if fault.by is not None else self._up()
        return [node for node in asked if _may(node, victim.node_id, fault.kind)][:1]

    def _why_nobody(self, fault: Fault, victim: SimulatedNode) -> str:
        """Why there is no node that may, in words."""
        if fault.by is None:
            who = "other node of its member" if fault.kind == "revoke" else "admin of another member"
            return f"no {who} is up"
        named = self._nodes[fault.by]
        if named.node is None:
            return f"{named.name} is down"
        state = _place_of(named.node)
        mine = state.nodes.get(named.node_id) if state is not None else None
        theirs = state.nodes.get(victim.node_id) if state is not None else None
        if state is None or mine is None or theirs is None:
            return f"{named.name} is not in the group" if mine is None else f"{victim.name} is not in the group"
        if fault.kind == "revoke" or mine.member_id == theirs.member_id:
            same = mine.member_id == theirs.member_id
            return f"{named.name} is {'of the same' if same else 'of another'} member"
        return f"{named.name} is no admin: its role is {state.members[mine.member_id].role}"

    async def _haunt(self, victim: SimulatedNode) -> None:
        random = Random(f"ghost of {victim.number} of {self._seed}")
        others = [node.node_id for node in self._nodes if node is not victim]
        stranger = Stranger(self._world, victim.keys.key, random, others)
        await stranger.live(("noise", "replay"))


def _place_of(node: Node) -> GroupState | None:
    place = next(iter(node.groups.places.values()), None)
    return place.state() if place is not None else None


def _member_of(node: Node, victim: NodeId) -> str:
    state = _place_of(node)
    assert state is not None
    return state.nodes[victim].member_id


def _may(node: Node, victim: NodeId, kind: str) -> bool:
    state, me = _place_of(node), node.identity.node_id
    mine = state.nodes.get(me) if state is not None else None
    theirs = state.nodes.get(victim) if state is not None else None
    if state is None or mine is None or theirs is None or me == victim:
        return False
    if kind == "revoke":
        return mine.member_id == theirs.member_id
    return mine.member_id != theirs.member_id and state.members[mine.member_id].role == "admin"


def _is_out(node: Node, victim: NodeId) -> bool:
    """Whether this node is in, and knows of a removal or a revocation of `victim`."""
    state = _place_of(node)
    if state is None or not state.admits(node.identity.node_id):
        return False
    return victim in state.revoked or state.former_of(victim) is not None
