"""One group as this node holds it: the log, durable before it is shown to anybody, and the group's keys."""

from collections.abc import Callable, Sequence

import msgpack
import trio

from node.identity import Identity
from node.seams import Disk
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.group_author import append, create_group
from protocol.group_key import GOSSIP_NONCE_BYTES, GROUP_KEY_BYTES, GroupKey, open_gossip, seal_gossip
from protocol.group_log import GroupLog
from protocol.group_state import GroupState
from protocol.keys import GroupId, NodeId
from protocol.operation_kinds import Payload
from protocol.operations import OpenOperation
from protocol.presence import PresenceBook
from protocol.sync import SyncSession
from protocol.wire import pack_plain

RandomBytes = Callable[[int], bytes]


class GroupPlace:
    """Everything about one group. `say` and `keep` make operations durable before they return."""

    def __init__(self, log: GroupLog, keys: dict[int, GroupKey], disk: Disk, identity: Identity) -> None:
        self.log = log
        self.keys = keys
        self.book = PresenceBook(log.group)
        self.sessions: dict[NodeId, SyncSession] = {}
        self._disk = disk
        self._identity = identity
        self._writing = trio.Lock()

    @property
    def group(self) -> GroupId:
        return self.log.group

    @property
    def topic(self) -> str:
        return f"/fednode/group/{self.group}/1"

    @property
    def newest_key(self) -> GroupKey:
        return self.keys[max(self.keys)]

    def state(self) -> GroupState:
        return self.log.state()

    async def say(self, payload: Payload, now: float) -> OpenOperation:
        """Write our own operation. Raises Refused when a rule would void it."""
        async with self._writing:
            operation = append(self.log, self._identity.keys.node, payload, claimed_at=int(now))
            await self._disk.append(_journal(self.group), operation.raw)
        return operation

    async def keep(self, operations: Sequence[OpenOperation]) -> None:
        """Make operations durable that the log has taken in."""
        async with self._writing:
            for operation in operations:
                await self._disk.append(_journal(self.group), operation.raw)

    async def keep_keys(self) -> None:
        packed = {str(epoch): key.secret for epoch, key in self.keys.items()}
        await self._disk.write(_key_file(self.group), pack_plain(packed))

    def seal(self, plain: bytes, random_bytes: RandomBytes) -> bytes:
        nonce = random_bytes(GOSSIP_NONCE_BYTES)
        return seal_gossip(self.newest_key, self.group, self.topic, plain, nonce=nonce)

    def open(self, data: bytes) -> bytes:
        """Raises RemoteProtocolError when `data` is not under a key of this group."""
        return open_gossip(self.keys, self.group, self.topic, data)

    def session(self, peer: NodeId) -> SyncSession:
        return self.sessions.setdefault(peer, SyncSession(self.log))


async def create_place(name: str, disk: Disk, identity: Identity, now: float, random_bytes: RandomBytes) -> GroupPlace:
    """A new group of which we are the first admin, durable."""
    log, operation = create_group(
        identity.keys.node, identity.certificate, name=name, nonce=random_bytes(16), claimed_at=int(now)
    )
    place = GroupPlace(log, {0: GroupKey(0, random_bytes(GROUP_KEY_BYTES))}, disk, identity)
    await place.keep_keys()
    await place.keep([operation])
    return place


async def joined_place(log: GroupLog, key: GroupKey, disk: Disk, identity: Identity) -> GroupPlace:
    """A group that has let us in, durable."""
    place = GroupPlace(log, {key.epoch: key}, disk, identity)
    await place.keep_keys()
    await place.keep(list(log))
    return place


async def load_place(group: GroupId, disk: Disk, identity: Identity) -> GroupPlace:
    """The group as it was when the node stopped. Raises FednodeError when its files are damaged."""
    log = GroupLog(group)
    raw_keys = await disk.read(_key_file(group))
    try:
        for raw in await disk.records(_journal(group)):
            log.add(raw)
        packed: dict[str, bytes] = msgpack.unpackb(raw_keys or b"\xc0")
        keys = {int(epoch): GroupKey(int(epoch), secret) for epoch, secret in packed.items()}
    except (RemoteProtocolError, ValueError, AttributeError, TypeError) as error:
        raise FednodeError(
            f"The files of group {group[:12]} in the node's home are damaged ({error})",
            remedy="restore the home from a backup, or join the group again from an empty home",
        ) from error
    return GroupPlace(log, keys, disk, identity)


def _journal(group: GroupId) -> str:
    return f"group-{group}"


def _key_file(group: GroupId) -> str:
    return f"group-{group}.keys"
