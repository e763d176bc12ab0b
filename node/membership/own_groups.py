"""What a member's nodes do in its groups without being told: enter those of their siblings, put out who is revoked.

A group is entered at the entrance of the sibling that told of it, as one more node of a member (docs/protocol.md §4.8).
Where the member has left, or was removed, nobody enters again; only a new admission counts. Rules: docs/protocol.md
§10.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import trio

from node.membership.group_place import GroupPlace
from protocol.entrance.siblings import GROUPS_TOLD_MAX, GroupTold
from protocol.errors import FednodeError, Refused
from protocol.group.operation_kinds import MemberProfile, NodeRevoke
from protocol.keys import GroupId, NodeId
from protocol.run.voters import lot

if TYPE_CHECKING:
    from node.membership.siblings import SiblingNodes
    from node.node import Node

log = logging.getLogger("fednode.siblings")

# How much longer each further node of the member waits before it says what the one that was told by hand did not get
# to say in some group: two rounds of gossip, and a comparison of logs.
TURN_S = 5.0
AGAIN_S = 30.0  # after a failure of our own disk
GROUPS_ENTERED_MAX = 1024  # a sibling that was stolen must not fill our disk with groups of its own making
END_AGAIN_S = 30.0  # a sibling that did not hear how a group ended for our member hears it again after so long


class OwnGroups:
    """Of one node. Start `run` in a nursery; call `look_again` whenever something may have to be said in a group."""

    def __init__(self, node: "Node", siblings: "SiblingNodes") -> None:
        self._node = node
        self._siblings = siblings
        self._changed = trio.Event()
        self._due: dict[tuple[GroupId, NodeId], float] = {}
        self._undescribed: set[GroupId] = set()  # groups that are to be told our profile
        self._to_enter: dict[NodeId, list[GroupTold]] = {}  # by who told of them: its newest word, and no more
        self._entering: WeakValueDictionary[GroupId, trio.Lock] = WeakValueDictionary()
        self._ends_told: dict[tuple[GroupId, NodeId], float] = {}
        self._nursery: trio.Nursery | None = None

    def look_again(self) -> None:
        self._changed.set()

    def ours(self) -> list[GroupPlace]:
        """The groups in which this node is."""
        me = self._node.identity.node_id
        return [place for place in self._node.groups.places.values() if place.state().admits(me)]

    def told(self) -> tuple[GroupTold, ...]:
        """The groups in which this node is, for its siblings; of very many, the newest."""
        me = self._node.identity.node_id
        found = []
        for place in self.ours()[-GROUPS_TOLD_MAX:]:
            member = place.state().member_of(me)
            if member is not None and member.grounds:
                admission = member.grounds[0].operation
                found.append(GroupTold(group=place.group, name=place.state().name, admission=admission))
        return tuple(found)

    # --- entering ------------------------------------------------------------------------------------------------
    def heard(self, peer: NodeId, groups: Iterable[GroupTold]) -> None:
        """A sibling is in these groups: enter those in which we are not. It may not know that our member is out of one:
        then it hears it.

        Whatever it tells, and however often, one group at a time is entered at it, and nobody else waits for that."""
        wanted = []
        for told in groups:
            place = self._node.groups.places.get(told.group)
            if place is not None and place.out() is not None and told.admission in place.log:
                self._tell_end(peer, place)
            elif self.should_enter(told):
                wanted.append(told)
        is_at_it = peer in self._to_enter
        if self._nursery is not None and wanted:
            self._to_enter[peer] = wanted
            if not is_at_it:
                self._nursery.start_soon(self._enter_all, peer)

    def _tell_end(self, peer: NodeId, place: GroupPlace) -> None:
        """Once for a while: who tells of an ended group on and on would have us take the whole log apart each time."""
        now = trio.current_time()
        if now >= self._ends_told.get((place.group, peer), -END_AGAIN_S) + END_AGAIN_S:
            self._ends_told[place.group, peer] = now
            self._siblings.tell_end(peer, place)

    def should_enter(self, told: GroupTold) -> bool:
        """Whether `told` is a group of our member in which this node is not. An admission that our own log holds is one
        that we know the end of: the member has left since, or was removed."""
        place = self._node.groups.places.get(told.group)
        if place is None:
            return len(self._node.groups.places) < GROUPS_ENTERED_MAX
        state, me = place.state(), self._node.identity.node_id
        return not state.admits(me) and me not in state.revoked and told.admission not in place.log

    async def _enter_all(self, peer: NodeId) -> None:
        try:
            while self._to_enter[peer]:
                await self._enter(self._to_enter[peer].pop(0), peer)
        finally:
            del self._to_enter[peer]

    async def _enter(self, told: GroupTold, peer: NodeId) -> None:
        try:
            async with self._entering.setdefault(told.group, trio.Lock()):
                if self.should_enter(told):
                    place = await self._node.groups.enter(told.group, peer)
                    log.info("entered the group %s, in which %s is already", place.state().name, peer)
        except FednodeError as error:
            log.info("could not enter the group %s at %s yet: %s", told.name, peer, error.what)

    # --- saying what has to be said ------------------------------------------------------------------------------
    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                next_at = await self._say_all()
                with trio.move_on_at(next_at):
                    await self._changed.wait()
                self._changed = trio.Event()

    async def _say_all(self) -> float:
        """Say what is due. When to look again, by trio's clock."""
        next_at = float("inf")
        try:
            for place in self.ours() if self._siblings.known.revocations or self._undescribed else []:
                next_at = min(next_at, await self._revoke_in(place))
                await self._describe_in(place)
        except FednodeError as error:
            log.error("a group could not be told something yet: %s", error)
            return trio.current_time() + AGAIN_S
        return next_at

    async def revoke_everywhere(
        self, node: NodeId, tell: Callable[[Iterable[GroupPlace]], Awaitable[None]]
    ) -> list[str]:
        """Put `node`, whose revocation is known, out of every group in which it and we are, and give their names.

        All is said, and `tell` awaited with these groups, before the first of them shuts its door."""
        said = []
        payload = NodeRevoke(revocation=self._siblings.known.revocations[node])
        for place in [place for place in self.ours() if place.state().admits(node)]:
            with suppress(Refused):  # another of our nodes was quicker
                said.append((place, await place.say(payload, self._node.now())))
        await tell(place for place, _ in said)
        for place, operation in said:
            await self._node.groups.on_kept(place, [operation])
        return [place.state().name for place, _ in said]

    async def _revoke_in(self, place: GroupPlace) -> float:
        """Put revoked nodes out that the group still has, when it is our turn. When that is, if later."""
        state, next_at = place.state(), float("inf")
        bound = [
            node
            for node in self._siblings.known.revocations
            if node in state.nodes and state.nodes[node].member_id == self._node.identity.member_id
        ]
        for node in bound:
            due = self._due.setdefault((place.group, node), trio.current_time() + self._turn(place) * TURN_S)
            if due <= trio.current_time():
                await self._revoke(place, node)
            else:
                next_at = min(next_at, due)
        return next_at

    async def _revoke(self, place: GroupPlace, node: NodeId) -> None:
        self._due.pop((place.group, node), None)
        payload = NodeRevoke(revocation=self._siblings.known.revocations[node])
        try:
            await self._node.groups.say(place, payload)
        except Refused as refused:  # another of our nodes was quicker
            log.debug("no revocation in %s: %s", place.state().name, refused.what)

    def _turn(self, place: GroupPlace) -> int:
        """0 for the node that holds the member's key, which revoked; the others follow by lot."""
        if self._node.identity.keys.member is not None:
            return 0
        me = self._node.identity.node_id
        member = place.state().member_of(me)
        return sorted(member.nodes if member else [me], key=lambda node: lot(place.group, node)).index(me) + 1

    # --- the profile ---------------------------------------------------------------------------------------------
    def describe_in(self, places: Iterable[GroupPlace]) -> None:
        """Have these groups told our profile, as far as they know another."""
        self._undescribed |= {place.group for place in places}
        self.look_again()

    async def _describe_in(self, place: GroupPlace) -> None:
        if place.group not in self._undescribed:
            return
        told, member = self._node.profile.told, place.state().member_of(self._node.identity.node_id)
        wanted = None if told is None else (told.name, told.organisation, told.contact)
        if told is not None and member and wanted != (member.name, member.organisation, member.contact):
            payload = MemberProfile(name=told.name, organisation=told.organisation, contact=told.contact)
            await self._node.groups.say(place, payload)
        self._undescribed.discard(place.group)
