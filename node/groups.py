"""The groups that this node is in: their logs kept alike on all nodes by gossip and anti-entropy, the door, presence.

Every operation becomes durable here before it is gossiped or acted on. What the groups' logs say about runs is for
node.runs, which is told of every new operation.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import msgpack
import trio

from node.address_book import AddressBook
from node.announcer import Announcer
from node.complaints import Complaints
from node.entrance import Entrance
from node.group_keys import GroupKeys
from node.group_place import GroupPlace, create_place, joined_place, load_place
from node.identity import Identity
from node.links import Links
from node.neighbours import Neighbours
from node.seams import ENTRANCE_PROTOCOL, Disk, Network
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.invitation import Invitation, invite, open_token
from protocol.keys import GroupId, NodeId
from protocol.limits import ANTI_ENTROPY_S
from protocol.operation_kinds import MemberLeave, MemberRemove, Payload
from protocol.operations import OpenOperation
from protocol.presence import Capacity, Presence, group_of, interval_s
from protocol.sync import SYNC_MESSAGE_BYTES_MAX, SyncMessage
from protocol.wire import pack, unpack

log = logging.getLogger("fednode.groups")

SYNC_CHANNEL = "sync"
PRESENCE_CHANNEL = "presence"
INDEX = "groups"  # the file that lists a node's groups
_OPERATION, _PRESENCE = b"o", b"p"  # the first byte of what is gossiped
# A wanted peer that stays away so long is told at its entrance who we are: it may not have heard of our admission.
INTRODUCE_AFTER_S = 5.0
# Shares of the usual interval: how soon a node announces itself that is new or back, and what lies at least between two
# announcements. 0.3 to 6 s, and 6 s, in a small group; a large one that was started all at once takes its time, so that
# nobody is flooded with what all have to say.
_HURRY_SHARES = (0.005, 0.1)
_ANNOUNCE_GAP_SHARE = 0.1
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
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        disk: Disk,
        links: Links,
        *,
        version: str,
        now: Callable[[], float],
        random: Random,
        describe: Callable[[], tuple[Capacity, tuple[str, ...], int]],
        on_operations: OnOperations,
        on_presence: Callable[[GroupPlace, Presence], None],
    ) -> None:
        self.identity = identity
        self.places: dict[GroupId, GroupPlace] = {}
        self._network = network
        self._disk = disk
        self._links = links
        self._now = now
        self._random = random
        self._announcer = Announcer(identity, network, version=version, now=now, describe=describe)
        self.neighbours = Neighbours(
            identity.node_id, AddressBook(network, disk, identity.node_id), self.places, self._announcer.where
        )
        self._on_operations = on_operations
        self._on_presence = on_presence
        self._nursery: trio.Nursery | None = None
        self._announce_now = trio.Event()
        self._connected: set[NodeId] = set()
        self._changes: set[NodeId] = set()
        self.entrance = Entrance(
            identity,
            network,
            self.places,
            known=self.neighbours.known_addresses,
            on_kept=self._on_kept,
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
            self.places[GroupId(group)] = await load_place(GroupId(group), self._disk, self.identity)
            await self.keys.look(self.places[GroupId(group)])
        self._open_door()
        self._network.handle(ENTRANCE_PROTOCOL, self.entrance.serve)

    async def run(self) -> None:
        """Keep the groups alive until cancelled. What is connected already counts too."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for place in self.places.values():
                self._start(place)
            nursery.start_soon(self._watch_peers)
            nursery.start_soon(self._anti_entropy)
            nursery.start_soon(self._announce_forever)
            nursery.start_soon(self._introduce_forever)
            nursery.start_soon(self.keys.run)

    def _start(self, place: GroupPlace) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._listen, place)

    async def _host(self, place: GroupPlace) -> None:
        """A group is new here: remember it, open the door to its nodes, listen."""
        self.places[place.group] = place
        await self._disk.write(INDEX, msgpack.packb(list(self.places)))
        self._open_door()
        self._start(place)
        self._hurry_announcement()

    # --- what the owner does -------------------------------------------------------------------------------------
    async def create(self, name: str) -> GroupPlace:
        place = await create_place(name, self._disk, self.identity, self._now(), self._random.randbytes)
        await self._host(place)
        await self._on_operations(place, list(place.log))
        return place

    async def invite(self, place: GroupPlace, role: str, uses: int, expires_s: int) -> tuple[OpenOperation, str]:
        """Post an invitation, and its token. Raises Refused when we may not invite."""
        now = int(self._now())
        operation, token = invite(
            place.log,
            self.identity.keys.node,
            seed=self._random.randbytes(32),
            role=role,  # type: ignore[arg-type]
            uses=uses,
            expires_at=now + expires_s,
            entrances=self.neighbours.entrances(place),
            now=now,
        )
        await place.keep([operation])
        await self._spread(place, operation)
        return operation, token

    async def join(self, token: str) -> tuple[GroupPlace, Invitation, NodeId]:
        """Use a token: the group, what the token said, and the node that let us in. Raises Refused or Unreachable."""
        invitation = open_token(token, now=int(self._now()))
        before = self.places.get(invitation.group)
        if before is not None and before.out() is None and not before.turned_away:
            raise Refused(
                "already-in",
                f"This node is in {invitation.group_name} already",
                remedy="nothing to do; see fednode group show",
            )
        joined, admitter = await self.entrance.join(invitation)
        for known in joined.known:
            self.neighbours.addresses.learn(known)
        if before is not None:  # we were put out, and are back
            before.keys[joined.group_key.epoch] = joined.group_key
            await before.keep_keys()
            added = [new for operation in joined.log for new in before.log.add(operation.raw).added]
            await self._took_in(before, added)
            return before, invitation, admitter
        place = await joined_place(joined.log, joined.group_key, self._disk, self.identity)
        await self._host(place)
        await self._on_operations(place, list(place.log))
        return place, invitation, admitter

    async def say(self, place: GroupPlace, payload: Payload) -> OpenOperation:
        """Write an operation of ours, durably, and spread it. Raises Refused when a rule would void it."""
        operation = await place.say(payload, self._now())
        await self._spread(place, operation)
        return operation

    async def _spread(self, place: GroupPlace, operation: OpenOperation) -> None:
        await self._publish(place, _OPERATION + operation.raw)
        if isinstance(operation.payload, MemberRemove | MemberLeave):
            await self._farewell(place)
        self._open_door()
        await self._on_operations(place, [operation])
        await self.keys.look(place)

    async def _farewell(self, place: GroupPlace) -> None:
        """Tell those who are out now, or everybody when we are, before the door shuts. Nothing of theirs is read."""
        parting = sorted(peer for peer in self._connected if not self.admits(peer))
        for peer in parting:
            self._links.send(peer, SYNC_CHANNEL, pack(place.session(peer).open_with_news()))
        await self._links.flush(parting, FAREWELL_S)

    async def _publish(self, place: GroupPlace, plain: bytes) -> None:
        await self._network.publish(place.topic, place.seal(plain, self._random.randbytes))

    # --- the door ------------------------------------------------------------------------------------------------
    def _open_door(self) -> None:
        self._network.set_door(self.admits)
        self._links.keep(self.neighbours.wanted())

    def admits(self, peer: NodeId) -> bool:
        return any(place.admits(peer) for place in self.places.values())

    def member_of(self, peer: NodeId) -> str:
        """Whose node `peer` is: a member of some group that is shared, or nobody's but its own."""
        entries = (place.state().nodes.get(peer) for place in self.places.values())
        return next((entry.member_id for entry in entries if entry is not None), str(peer))

    # --- gossip --------------------------------------------------------------------------------------------------
    async def _listen(self, place: GroupPlace) -> None:
        recent: dict[str, None] = {}
        complaints = Complaints(trio.current_time)
        async for gossip in self._network.subscribe(place.topic):
            try:
                opened = place.open(gossip.data)
                if opened.hash not in recent:
                    recent[opened.hash] = None
                    if len(recent) > RECENT_MESSAGES:
                        del recent[next(iter(recent))]
                    await self._on_gossip(place, gossip.peer, opened.kind, opened.body)
            except RemoteProtocolError as error:
                if told := complaints.told(gossip.peer, error.what):
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
        self.neighbours.addresses.learn(presence.where())
        self._on_presence(place, presence)

    async def _took_in(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        if operations or place.has_unkept:
            kept = await place.keep(operations)
            self._open_door()
            await self._on_operations(place, kept)
            await self.keys.look(place)

    async def _on_kept(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        """The entrance has taken something in that is durable already: spread it."""
        for operation in operations:
            await self._spread(place, operation)

    # --- anti-entropy --------------------------------------------------------------------------------------------
    async def on_sync(self, peer: NodeId, payload: bytes) -> None:
        """A peer's half of a comparison of logs. Raises RemoteProtocolError."""
        message = unpack(SyncMessage, payload, SYNC_MESSAGE_BYTES_MAX)
        place = self.places.get(message.group)
        if place is None or not place.admits(peer):
            return
        result = place.session(peer).receive(message)
        await self._took_in(place, result.added)
        if result.answer is not None:
            self._links.send(peer, SYNC_CHANNEL, pack(result.answer))
        if result.fault is not None:
            log.warning("%s sent an operation that cannot stand: %s", peer, result.fault.what)

    def _sync_with(self, place: GroupPlace, peer: NodeId) -> None:
        self._links.send(peer, SYNC_CHANNEL, pack(place.session(peer).open()))

    async def _anti_entropy(self) -> None:
        while True:
            await trio.sleep(ANTI_ENTROPY_S * (0.75 + 0.5 * self._random.random()))
            for place in list(self.places.values()):
                peers = sorted(peer for peer in self._connected if place.admits(peer))
                if peers:
                    self._sync_with(place, self._random.choice(peers))
                    self.keys.ask(place, peers[:1])

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
                    self._links.send(change.peer, PRESENCE_CHANNEL, self._announcer.newest(place.group))
            if len(self._connected) == 1:
                self._hurry_announcement()  # we are back: the others hear of it from those who are connected to us

    @property
    def connected(self) -> frozenset[NodeId]:
        return frozenset(self._connected)

    def take_changes(self) -> set[NodeId]:
        """The peers that came or went since this was asked last."""
        changes, self._changes = self._changes, set()
        return {peer for peer in changes if self.admits(peer)}

    # --- presence ------------------------------------------------------------------------------------------------
    def _hurry_announcement(self) -> None:
        self._announce_now.set()

    async def _announce_forever(self) -> None:
        while True:
            nodes = max((len(place.state().nodes) for place in self.places.values()), default=1)
            # Jitter keeps a group that was started by one script from announcing in one breath.
            with trio.move_on_after(interval_s(nodes) * (0.9 + 0.2 * self._random.random())):
                await self._announce_now.wait()
                first, last = _HURRY_SHARES
                await trio.sleep(interval_s(nodes) * (first + (last - first) * self._random.random()))
            self._announce_now = trio.Event()
            for place in [place for place in self.places.values() if place.out() is None]:
                await self._announce(place)
            try:
                await self.neighbours.addresses.save()
            except FednodeError as error:
                log.error("addresses of other nodes are not remembered: %s", error)
            await trio.sleep(interval_s(nodes) * _ANNOUNCE_GAP_SHARE)

    async def _announce(self, place: GroupPlace) -> None:
        await self._publish(place, _PRESENCE + self._announcer.make(place.group))

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
            for place in list(self.places.values()):
                away = self.neighbours.wanted() - self._connected
                for peer in sorted(away):
                    known = place.admits(peer) and self.neighbours.addresses.of(peer) is not None
                    if known and await self.entrance.introduce(place, peer):
                        self._links.keep(self.neighbours.wanted())
