"""The groups that this node is in: their logs kept alike on all nodes by gossip and anti-entropy, the door, presence.

Every operation becomes durable here before it is gossiped or acted on. What the groups' logs say about runs is for
node.run.runs, which is told of every new operation.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import msgpack
import trio

from node.home.identity import Identity
from node.membership.address_book import AddressBook
from node.membership.announcements import Announcements
from node.membership.announcer import Announcer
from node.membership.entrance import Entrance
from node.membership.group_keys import GroupKeys
from node.membership.group_place import SYNC_CHANNEL as SYNC_CHANNEL
from node.membership.group_place import GroupPlace, check_has_key, create_place, joined_place, load_place
from node.membership.neighbours import Neighbours
from node.membership.siblings import SiblingNodes
from node.membership.whereabouts import Whereabouts
from node.network.complaints import Complaints
from node.network.links import Links
from node.seams import ENTRANCE_PROTOCOL, Disk, Network
from protocol.entrance.invitation import Invitation, invite, open_token
from protocol.entrance.joining import Joined
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.group.operation_kinds import MemberLeave, MemberRemove, NodeRevoke, Payload
from protocol.group.operations import OpenOperation
from protocol.group.presence import Capacity, Presence, group_of
from protocol.group.sync import SYNC_MESSAGE_BYTES_MAX, SyncMessage
from protocol.group.why_out import why_out
from protocol.keys import GroupId, NodeId
from protocol.limits import ANTI_ENTROPY_S
from protocol.wire import pack, unpack

log = logging.getLogger("fednode.groups")

PRESENCE_CHANNEL = "presence"
INDEX = "groups"  # the file that lists a node's groups
_OPERATION, _PRESENCE = b"o", b"p"  # the first byte of what is gossiped
# A wanted peer that stays away so long is told at its entrance who we are: it may not have heard of our admission.
INTRODUCE_AFTER_S = 5.0
FAREWELL_S = 1.0  # for telling the nodes that are being put out so, before their connections are cut
RECENT_MESSAGES = 4096  # hashes of gossip already handled; a minute's worth in the largest group

OnOperations = Callable[[GroupPlace, Sequence[OpenOperation]], Awaitable[None]]


class Groups:
    """All groups of this node.

    Args:
        identity, network, disk, links: this node and its seams.
        now: the wall clock, in seconds since 1970, for what people read and what an admission signs.
        random: the node's seeded source.
        describe: this node's capacity, and the ids of its open runs, for presence.
        on_operations: told of new operations, after they are durable.
        on_presence: told of what was heard of a node.
        on_entered: told of a group that this node has created, joined or entered.
        on_note: told, in a sentence, what the owner is to know.
        siblings: our member's other nodes, to whom the door is open too.
        outside: where outsiders reach this node, as its owner says.
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        disk: Disk,
        links: Links,
        siblings: SiblingNodes,
        *,
        version: str,
        now: Callable[[], float],
        random: Random,
        describe: Callable[[], tuple[Capacity, tuple[str, ...], int]],
        on_operations: OnOperations,
        on_presence: Callable[[GroupPlace, Presence], None],
        on_entered: Callable[[GroupPlace], None],
        on_note: Callable[[str], None],
        outside: Sequence[str] = (),
    ) -> None:
        self.identity = identity
        self.places: dict[GroupId, GroupPlace] = {}
        self._network = network
        self._disk = disk
        self._links = links
        self._now = now
        self._random = random
        addresses = AddressBook(network, disk, identity.node_id, links.hurry)
        self.announcer = Announcer(
            identity, network, addresses, version=version, now=now, describe=describe, outside=outside
        )
        self.neighbours = Neighbours(identity.node_id, addresses, self.places, self.announcer, siblings.wanted)
        self.announcements = Announcements(self.places, random, announce=self._announce, save=addresses.save)
        self.whereabouts = Whereabouts(
            addresses,
            self.places,
            links,
            wanted=self.neighbours.wanted,
            connected=lambda: self._connected,
            admits=self.admits,
        )
        self._on_operations = on_operations
        self._on_presence = on_presence
        self._on_entered = on_entered
        self._siblings = siblings
        self._nursery: trio.Nursery | None = None
        self._complaints = Complaints(trio.current_time)
        self._connected: set[NodeId] = set()
        self._changes: set[NodeId] = set()
        self.entrance = Entrance(
            identity,
            network,
            self.places,
            known=self.neighbours.known_records,
            told=self.neighbours.addresses.told,
            siblings=siblings,
            on_kept=self.on_kept,
            on_turned_away=on_note,
            now=now,
            random_bytes=random.randbytes,
        )
        self.keys = GroupKeys(
            identity, self.places, links, say=self.say, random_bytes=random.randbytes, connected=lambda: self._connected
        )

    # --- life ----------------------------------------------------------------------------------------------------
    async def load(self) -> None:
        """Take up the groups that we were in. Call it once, before `run`."""
        await self.neighbours.addresses.load()
        index: list[str] = msgpack.unpackb(await self._disk.read(INDEX) or b"\x90")
        for group in index:
            place = self.places[GroupId(group)] = await load_place(GroupId(group), self._disk, self.identity)
            try:
                await self.keys.look(place)
            except FednodeError as error:  # our own disk's; it is looked again as soon as the log grows
                log.error("a key of %s could not be taken in yet: %s", place.state().name, error)
            check_has_key(place)
        self.open_door()
        self._network.handle(ENTRANCE_PROTOCOL, self.entrance.serve)

    async def run(self) -> None:
        """Keep the groups alive until cancelled. What is connected already counts too."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for place in self.places.values():
                self._start(place)
            nursery.start_soon(self._watch_peers)
            nursery.start_soon(self._anti_entropy)
            nursery.start_soon(self.announcements.run)
            nursery.start_soon(self._introduce_forever)
            nursery.start_soon(self.keys.run)

    def _start(self, place: GroupPlace) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._listen, place)

    async def _host(self, place: GroupPlace) -> None:
        """A group is new here: remember it, open the door to its nodes, listen."""
        self.places[place.group] = place
        await self._disk.write(INDEX, msgpack.packb(list(self.places)))
        self.open_door()
        self._start(place)
        self.announcements.hurry()

    # --- what the owner does -------------------------------------------------------------------------------------
    async def create(self, name: str) -> GroupPlace:
        place = await create_place(name, self._disk, self.identity, self._now(), self._random.randbytes)
        await self._host(place)
        await self._on_operations(place, list(place.log))
        self._on_entered(place)
        return place

    async def invite(
        self, place: GroupPlace, role: str, uses: int, expires_s: int, outside: Sequence[str] = (), qr: bool = False
    ) -> tuple[OpenOperation, str]:
        """Post an invitation, and its token. Raises Refused when we may not invite.

        `outside`: more addresses where outsiders reach this node, for this token alone. `qr`: the token is to be
        short, for a QR code.
        """
        now = int(self._now())
        operation, token = invite(
            place.log,
            self.identity.keys.node,
            seed=self._random.randbytes(32),
            role=role,  # type: ignore[arg-type]
            uses=uses,
            expires_at=now + expires_s,
            entrances=self.neighbours.entrances(place, outside, self._connected, qr=qr),
            now=now,
        )
        await self.on_kept(place, await place.keep([operation]))
        return operation, token

    async def join(self, token: str) -> tuple[GroupPlace, Invitation, NodeId]:
        """Use a token: the group, what the token said, and the node that let us in. Raises Refused or Unreachable."""
        invitation = open_token(token, now=int(self._now()))
        before = self.places.get(invitation.group)
        if before is not None and before.admits(self.identity.node_id) and not before.turned_away:
            raise Refused(
                "already-in",
                f"This node is in {invitation.group_name} already",
                remedy="nothing to do; see fednode group show",
            )
        joined, admitter = await self.entrance.join(invitation)
        return await self._enter(joined), invitation, admitter

    async def enter(self, group: GroupId, peer: NodeId) -> GroupPlace:
        """Enter a group of which our member is one, at `peer`, a node of it. Raises Refused or Unreachable."""
        return await self._enter(await self.entrance.enter(group, peer))

    async def _enter(self, joined: Joined) -> GroupPlace:
        for known in joined.known:
            self.neighbours.addresses.learn(known)
        place = self.places.get(joined.log.group)
        if place is not None:  # we were put out, and are back
            self.entrance.welcomed(place)
            place.keys[joined.group_key.epoch] = joined.group_key
            await place.keep_keys()
            added = [new for operation in joined.log for new in place.log.add(operation.raw).added]
            await self._took_in(place, added)
        else:
            place = await joined_place(joined.log, joined.group_key, self._disk, self.identity)
            await self._host(place)
            await self._on_operations(place, list(place.log))
        self._on_entered(place)
        return place

    async def say(self, place: GroupPlace, payload: Payload) -> OpenOperation:
        """Write an operation of ours, durably, and spread it. Raises Refused when a rule would void it."""
        operation = await place.say(payload, self._now())
        await self._spread(place, operation)
        return operation

    async def _spread(self, place: GroupPlace, operation: OpenOperation) -> None:
        await self._publish(place, _OPERATION + operation.raw)
        if isinstance(operation.payload, MemberRemove | MemberLeave | NodeRevoke):
            await self._farewell(place)
        self.open_door()
        await self._on_operations(place, [operation])
        await self.keys.look(place)

    async def _farewell(self, place: GroupPlace) -> None:
        """Tell those who are out now, or everybody when we are, before the door shuts. Nothing of theirs is read."""
        out = [peer for peer in self._connected if not place.admits(peer)]
        parting = sorted(peer for peer in out if peer in place.state().nodes or why_out(place.state(), peer))
        for peer in parting:
            self._links.send(peer, SYNC_CHANNEL, pack(place.session(peer).open_with_news()))
        await self._links.flush(parting, FAREWELL_S)

    async def _publish(self, place: GroupPlace, plain: bytes) -> None:
        await self._network.publish(place.topic, place.seal(plain, self._random.randbytes))

    # --- the door ------------------------------------------------------------------------------------------------
    def open_door(self) -> None:
        """Let in, and dial, whom we should now; cut off whoever is not among them."""
        self._network.set_door(self.admits)
        self._links.keep(self.neighbours.wanted())

    def admits(self, peer: NodeId) -> bool:
        """Whether `peer` is in a group with us, or one of our own member's nodes; never one that this has revoked."""
        if self._siblings.is_revoked(peer):
            return False
        return self._siblings.admits(peer) or any(place.admits(peer) for place in self.places.values())

    def member_of(self, peer: NodeId) -> str:
        """Whose node `peer` is: a member of some group that is shared, or nobody's but its own."""
        entries = (place.state().nodes.get(peer) for place in self.places.values())
        return next((entry.member_id for entry in entries if entry is not None), str(peer))

    # --- gossip --------------------------------------------------------------------------------------------------
    async def _listen(self, place: GroupPlace) -> None:
        recent: dict[str, None] = {}
        async for gossip in self._network.subscribe(place.topic, place.admits):
            try:
                opened = place.open(gossip.data)
                if opened.hash not in recent:
                    recent[opened.hash] = None
                    if len(recent) > RECENT_MESSAGES:
                        del recent[next(iter(recent))]
                    await self._on_gossip(place, gossip.peer, opened.kind, opened.body)
            except RemoteProtocolError as error:
                if told := self._complaints.told(gossip.peer, error.what):
                    log.warning("dropped gossip that %s passed on: %s", gossip.peer, told)
            except Refused as refused:
                log.debug("ignored gossip that %s passed on: %s", gossip.peer, refused.what)
            except FednodeError as error:  # our own disk's: the group is listened to all the same
                log.error("what %s passed on could not be taken in yet: %s", gossip.peer, error)

    async def _on_gossip(self, place: GroupPlace, peer: NodeId, kind: bytes, body: bytes) -> None:
        if kind == _PRESENCE:
            self._hear(place, body)
        elif kind == _OPERATION:
            addition = place.log.add(body)
            await self._took_in(place, addition.added)
            if addition.missing:
                self._sync_with(place, peer)

    def _hear(self, place: GroupPlace, announcement: bytes) -> None:
        """Note what a node says of itself. Raises RemoteProtocolError, and Refused for what is no news."""
        presence = place.book.hear(announcement, place.state(), now=trio.current_time())
        self.neighbours.addresses.learn(presence.where)
        self._on_presence(place, presence)

    async def _took_in(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        if operations or place.has_unkept:
            kept = await place.keep(operations)
            self.open_door()
            await self._on_operations(place, kept)
            await self.keys.look(place)

    async def on_kept(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        """What has been said, or taken in at the entrance, and is durable already: spread it."""
        for operation in operations:
            await self._spread(place, operation)

    # --- anti-entropy --------------------------------------------------------------------------------------------
    async def on_sync(self, peer: NodeId, payload: bytes) -> None:
        """A peer's half of a comparison of logs. Raises RemoteProtocolError."""
        message = unpack(SyncMessage, payload, SYNC_MESSAGE_BYTES_MAX)
        place = self.places.get(message.group)
        if place is None or not place.admits(peer):
            return
        place.shut_at.pop(peer, None)  # it speaks with us again
        result = place.session(peer).receive(message)
        await self._took_in(place, result.added)
        if result.answer is not None:
            self._links.send(peer, SYNC_CHANNEL, pack(result.answer))
        if result.fault is not None and (told := self._complaints.told(peer, result.fault.what)):
            log.warning("%s sent an operation that cannot stand: %s", peer, told)

    def _sync_with(self, place: GroupPlace, peer: NodeId) -> None:
        self._links.send(peer, SYNC_CHANNEL, pack(place.session(peer).open()))

    async def _anti_entropy(self) -> None:
        while True:
            await trio.sleep(ANTI_ENTROPY_S * (0.75 + 0.5 * self._random.random()))
            for place in list(self.places.values()):
                if peers := sorted(peer for peer in self._connected if place.admits(peer)):
                    chosen = self._random.choice(peers)
                    self._sync_with(place, chosen)
                    self.keys.ask(place, peers[:1])
                    self.whereabouts.ask(place, [chosen], of_us=True)

    async def _watch_peers(self) -> None:
        async for change in self._network.peer_changes():
            self._changes.add(change.peer)
            if not change.connected:
                self._connected.discard(change.peer)
                continue
            self._connected.add(change.peer)
            for place in list(self.places.values()):
                if place.admits(change.peer):
                    self.keys.ask(place, [change.peer])
                    self._sync_with(place, change.peer)
                    self.whereabouts.ask(place, [change.peer])
                    self._links.send(change.peer, PRESENCE_CHANNEL, self.announcer.newest(place.group))
            if len(self._connected) == 1:
                self.announcements.hurry()  # we are back: the others hear of it from those who are connected to us

    @property
    def connected(self) -> frozenset[NodeId]:
        return frozenset(self._connected)

    def take_changes(self) -> set[NodeId]:
        """The peers that came or went since this was asked last."""
        changes, self._changes = self._changes, set()
        return {peer for peer in changes if self.admits(peer)}

    # --- presence ------------------------------------------------------------------------------------------------
    async def _announce(self, place: GroupPlace) -> None:
        await self._publish(place, _PRESENCE + self.announcer.make(place.group))

    def on_presence(self, peer: NodeId, announcement: bytes) -> None:
        """What a peer says of itself on connecting. Raises RemoteProtocolError."""
        place = self.places.get(group_of(announcement))
        if place is not None and place.admits(peer):
            try:
                self._hear(place, announcement)
            except Refused as refused:
                log.debug("ignored the presence of %s: %s", peer, refused.what)

    async def _introduce_forever(self) -> None:
        """Peers that stay away may not know us yet: their door is shut, but their entrance is not."""
        while True:
            await trio.sleep(INTRODUCE_AFTER_S * (0.75 + 0.5 * self._random.random()))
            for place in [] if self._siblings.trouble else list(self.places.values()):  # nobody lets in who is revoked
                for peer in sorted({*self.neighbours.wanted(), *self.neighbours.wanted_in(place)} - self._connected):
                    known = place.admits(peer) and self.neighbours.addresses.is_findable(peer)
                    if known and self.entrance.knocks.may(place.group, peer):
                        await self.entrance.introduce(place, peer)
                        self._links.keep(self.neighbours.wanted())
