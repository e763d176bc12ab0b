"""The member's other nodes: who they are, on the disk; the news that they tell each other; whom the door is open to.

News goes to every connected sibling when a connection comes up and whenever something is new, and is compared with one
of them now and then, so what one of them knows all know soon, also those that were off line. Rules: docs/protocol.md
§10.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgpack
import trio

from node.membership.group_place import SYNC_CHANNEL, GroupPlace
from node.membership.knocks import KNOCK_FIRST_S, Knocks
from node.membership.neighbours import KEPT_PEERS_MAX, kept_by_lot
from node.membership.own_groups import OwnGroups
from node.seams import Disk
from protocol.entrance.introducing import Welcomed
from protocol.entrance.link_host import LinkDesk, revoked
from protocol.entrance.linking import ShutOut, SiblingKnock
from protocol.entrance.outputs import TurnedAway
from protocol.entrance.siblings import SIBLING_NEWS_BYTES_MAX, GroupTold, OpenLink, SiblingNews, Siblings
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.group.address_record import open_address_record
from protocol.group.operations import OpenOperation
from protocol.identity import open_certificate
from protocol.keys import GroupId, Hash, NodeId
from protocol.limits import ANTI_ENTROPY_S, KNOWN_ADDRESSES_MAX
from protocol.wire import pack, pack_plain, unpack

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.siblings")

SIBLING_CHANNEL = "siblings"
FILE = "siblings"
TELL_GAP_S = 1.0  # between two tellings to all: a sibling that makes news without end has us send no flood of it
PARTING_S = 1.0  # for telling a node that it is revoked, before its connections are cut
# A sibling that stays away may not know us yet: we knock at its entrance, ever less often, and then after so long.
SIBLING_KNOCK_LAST_S = 300.0
_ALL = GroupId("siblings")  # what stands for a group where it is about all siblings


class SiblingNodes:
    """Of one node. Load it before the groups, which ask it whom to admit; start `run` in a nursery."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._me = node.identity.node_id
        self.known = Siblings(node.identity.member_id)
        self.key_holders: set[NodeId] = set()
        self.groups = OwnGroups(node, self)
        self._others = trio.Event()  # there is a sibling besides us
        self._told: tuple[GroupTold, ...] = ()
        self._to_tell = trio.Event()  # something is new for all siblings
        self._is_out = False

    # --- what is known -------------------------------------------------------------------------------------------
    async def load(self) -> None:
        """Read what was known. Raises FednodeError when the file is damaged, for a lost revocation would open doors."""
        self.known, self._is_out = Siblings(self._node.identity.member_id), False
        self.key_holders.clear()
        await read_siblings(self._node.disk, self.known, self.key_holders)
        self.known.add_certificate(self._node.identity.certificate)
        self._look_round()

    async def keep(self) -> None:
        """What is known has changed: make it durable, tell all siblings, and set the door by it."""
        self._look_round()
        await write_siblings(self._node.disk, self.known, self.key_holders)
        await self._node.groups.neighbours.addresses.save()
        self.spread()
        self._node.groups.open_door()
        self.groups.look_again()

    def _look_round(self) -> None:
        if self._me in self.known.revocations and not self._is_out:
            self._is_out = True
            text = revoked(self.known, self._me).what
            log.warning("%s", text)
            self._node.hub.publish({"type": "note", "text": text})
        if self.others():
            self._others.set()

    @property
    def trouble(self) -> str:
        """That our own member has revoked us, if so, and what to do, in a sentence; else ""."""
        if self._me not in self.known.revocations:
            return ""
        refused = revoked(self.known, self._me)
        return f"{refused.what}; {refused.remedy}"

    def others(self) -> list[NodeId]:
        """The siblings that count, without us; none for a node that is revoked itself."""
        if self._me in self.known.revocations:
            return []
        return [node for node in self.known.certificates if node != self._me and self.known.admits(node)]

    def admits(self, peer: NodeId) -> bool:
        return self._me not in self.known.revocations and self.known.admits(peer)

    def is_revoked(self, peer: NodeId) -> bool:
        return peer in self.known.revocations

    def wanted(self) -> list[NodeId]:
        """The siblings to hold connections to: all of a few, else those that a lot of the pair chooses."""
        others = self.others()
        if len(others) <= KEPT_PEERS_MAX:
            return others
        return kept_by_lot(_ALL, self._me, others)

    def desk(self) -> LinkDesk:
        """What the entrance has for further nodes of our member."""
        identity = self._node.identity
        name = self._node.profile.name
        return LinkDesk(self.known, identity.keys.member, name, self.groups.told(), self._records())

    def _records(self) -> tuple[bytes, ...]:
        """Where we are, and where our siblings say that they are."""
        addresses = self._node.groups.neighbours.addresses
        known = (addresses.record(node) for node in self.others())
        others = [raw for raw in known if raw is not None]
        return (self._node.groups.announcer.record(), *others[: KNOWN_ADDRESSES_MAX - 1])

    def learn(self, records: Iterable[bytes]) -> None:
        """Take in where siblings are. What is about others, or not signed by its node, counts for nothing."""
        for raw in records:
            with suppress(RemoteProtocolError):
                if self.admits(NodeId(open_address_record(raw).node_id)):
                    self._node.groups.neighbours.addresses.learn(raw)

    # --- what the groups' logs say of us -------------------------------------------------------------------------
    async def look_into_groups(self) -> None:
        """At the start: nodes that have our member's key by hand are known by the groups' logs alone."""
        for place in self._node.groups.places.values():
            member = place.state().members.get(self._node.identity.member_id)
            bound = [hash_ for node in (member.nodes if member else ()) for hash_ in place.log.bindings_of(node)]
            revoked = [entry.operation for entry in place.state().revoked.values()]
            await self.look([place.log[hash_] for hash_ in (*bound, *revoked)])

    async def look(self, operations: Iterable[OpenOperation]) -> None:
        """Take from a log what our member has signed; tell the siblings of a group that is new here."""
        ours = self._node.identity.member_id
        news = False
        for operation in operations:
            payload = operation.payload
            if operation.certificate is not None and operation.certificate.member_id == ours:
                news = self.known.add_certificate(payload.certificate) or news  # type: ignore[union-attr]
            if operation.revocation is not None and operation.revocation.member_id == ours:
                news = self.known.add_revocation(payload.revocation) or news  # type: ignore[union-attr]
        if news:
            await self.keep()
        if self.known.revocations:
            self.groups.look_again()
        if self.others() and self.groups.told() != self._told:
            self.spread()

    # --- news ----------------------------------------------------------------------------------------------------
    def _news(self, *, full: bool, opens: bool) -> bytes:
        self._told = self.groups.told()
        message = SiblingNews(
            opens=opens,
            digest=self.known.digest(),
            certificates=tuple(self.known.certificates.values()) if full else (),
            revocations=tuple(self.known.revocations.values()) if full else (),
            groups=self._told,
            holds_member_key=self._node.identity.keys.member is not None,
            known=self._records(),
            profile=self._node.profile.told,
        )
        return pack(message)

    def tell(self, peer: NodeId, *, full: bool = True, opens: bool = True) -> None:
        self._node.links.send(peer, SIBLING_CHANNEL, self._news(full=full, opens=opens), "news" if opens else "")

    def spread(self) -> None:
        """Have all connected siblings told how things stand: now, or TELL_GAP_S after the last time."""
        self._to_tell.set()

    async def _tell_all_forever(self) -> None:
        while True:
            await self._to_tell.wait()
            self._to_tell = trio.Event()
            for peer in sorted(self._node.groups.connected):
                if self.admits(peer):
                    self.tell(peer)
            await trio.sleep(TELL_GAP_S)

    async def on_message(self, peer: NodeId, payload: bytes) -> None:
        """A sibling's news. Raises RemoteProtocolError."""
        if not self.known.admits(peer):
            return
        news = unpack(SiblingNews, payload, SIBLING_NEWS_BYTES_MAX)
        changed = self.known.add_all(news.certificates, news.revocations)
        self.learn(news.known)
        holds = self.key_holders | {peer} if news.holds_member_key else self.key_holders - {peer}
        holders_changed, self.key_holders = holds != self.key_holders, holds
        if changed:
            await self.keep()
        elif holders_changed:  # for us to know; the others hear it from that node itself
            await write_siblings(self._node.disk, self.known, self.key_holders)
        if news.opens:
            self._answer(peer, news)
        if self.admits(peer):
            await self._node.profile.heard(news.profile)
            self.groups.heard(peer, news.groups)

    def _answer(self, peer: NodeId, news: SiblingNews) -> None:
        is_short = not news.certificates
        if is_short and news.digest != self.known.digest():
            self.tell(peer)
        elif not is_short and self.known.lacks(news):
            self.tell(peer, opens=False)

    async def part_from(self, peer: NodeId, places: Iterable[GroupPlace]) -> None:
        """A parting word for a sibling that was revoked, in these groups too, before its connections are cut."""
        if peer in self._node.groups.connected:
            self.tell(peer, opens=False)
            for place in places:
                self.tell_end(peer, place)
            await self._node.links.flush([peer], PARTING_S)

    def tell_end(self, peer: NodeId, place: GroupPlace) -> None:
        """How a sibling, or our member, came to be out of a group: from the group it may hear nothing any more."""
        self._node.links.send(peer, SYNC_CHANNEL, pack(place.session(peer).open_with_news()))

    # --- life ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_peers)
            nursery.start_soon(self._tell_all_forever)
            nursery.start_soon(self._compare_forever)
            nursery.start_soon(self._knock_forever)
            nursery.start_soon(self.groups.run)

    async def _watch_peers(self) -> None:
        async for change in self._node.network.peer_changes():
            if change.connected and self.admits(change.peer):
                self.tell(change.peer)

    async def _compare_forever(self) -> None:
        await self._others.wait()
        random = self._node.random
        while True:
            await trio.sleep(ANTI_ENTROPY_S * (0.75 + 0.5 * random.random()))
            peers = [peer for peer in sorted(self._node.groups.connected) if self.admits(peer)]
            if peers:
                self.tell(random.choice(peers), full=False)

    async def _knock_forever(self) -> None:
        """At the entrances of siblings that stay away: they may not have heard of us, or may know why we are out."""
        await self._others.wait()
        knocks = Knocks(trio.current_time, SIBLING_KNOCK_LAST_S)
        while True:
            await trio.sleep(KNOCK_FIRST_S)
            away = set(self.wanted()) - self._node.groups.connected
            knocks.keep(_ALL, away)
            for peer in sorted(away):
                if knocks.may(_ALL, peer) and self._node.groups.neighbours.addresses.is_findable(peer):
                    await self._knock(peer)
                    knocks.turned_away(_ALL, peer)

    async def _knock(self, peer: NodeId) -> None:
        knock = SiblingKnock(self._node.identity.certificate)
        try:
            outcome = await self._node.groups.entrance.converse(peer, knock)
        except FednodeError as error:
            log.debug("sibling %s does not answer at its entrance: %s", peer, error.what)
            return
        match outcome:
            case ShutOut(revocation):
                with suppress(RemoteProtocolError):  # checked already
                    self.known.add_revocation(revocation)
                await self.keep()
            case TurnedAway(reason):
                log.info("sibling %s turned us away: %s", peer, reason.what)
            case Welcomed():
                self._node.groups.open_door()


# --- the file --------------------------------------------------------------------------------------------------
async def read_siblings(disk: Disk, siblings: Siblings, key_holders: set[NodeId]) -> None:
    """Fill `siblings` and `key_holders` with what the home has. Raises FednodeError when that is damaged."""
    raw = await disk.read(FILE)
    if raw is None:
        return
    try:
        kept = msgpack.unpackb(raw)
        if kept["member"] != siblings.member_id:
            return  # of the member that this node was of before it was linked
        siblings.add_all(kept["certificates"], kept["revocations"])
        for link_id, expires_at, used_by, *more in kept["links"]:  # homes of before do not say what was taken back
            node = NodeId(used_by) if used_by else None
            siblings.links[Hash(link_id)] = OpenLink(Hash(link_id), int(expires_at), node, more == [True])
        key_holders.update(NodeId(node) for node in kept["key_holders"])
    except (ValueError, TypeError, KeyError, AttributeError, RemoteProtocolError) as error:
        raise FednodeError(
            f"The file {FILE} in the node's home is damaged ({error})",
            remedy="restore the home from a backup, or set the machine up anew: a new home, and fednode start --link",
        ) from error


async def write_siblings(disk: Disk, siblings: Siblings, key_holders: Iterable[NodeId] = ()) -> None:
    kept = {
        "member": siblings.member_id,
        "certificates": list(siblings.certificates.values()),
        "revocations": list(siblings.revocations.values()),
        "links": [
            [link.link_id, link.expires_at, link.used_by or "", link.revoked] for link in siblings.links.values()
        ],
        "key_holders": sorted(key_holders),
    }
    await disk.write(FILE, pack_plain(kept))


def name_of(siblings: Siblings, node: NodeId) -> str:
    """What people call a sibling, as its certificate has it; the end of its id for one that none is known of."""
    raw = siblings.certificates.get(node)
    return open_certificate(raw).node_name if raw else node[-8:]
