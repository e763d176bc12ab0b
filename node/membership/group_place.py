"""One group as this node holds it: the log, durable before it is shown to anybody, and the group's keys."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import NamedTuple

import msgpack
import trio
from blake3 import blake3

from node.home.identity import Identity
from node.seams import Disk
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.group.author import append, create_group, draft
from protocol.group.key import GOSSIP_NONCE_BYTES, GROUP_KEY_BYTES, GroupKey, open_gossip, seal_gossip
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import GroupCreate, Payload
from protocol.group.operations import OpenOperation
from protocol.group.presence import PresenceBook
from protocol.group.reducer import NodeTooOld
from protocol.group.state import FormerMember, GroupState, RevokedNode
from protocol.group.sync import SyncSession
from protocol.keys import GroupId, Hash, NodeId
from protocol.version import PROTOCOL_VERSION
from protocol.wire import hash_of, pack_plain

log = logging.getLogger("fednode.groups")

_TOPIC_CONTEXT = f"fednode gossip topic, protocol {PROTOCOL_VERSION}"

SYNC_CHANNEL = "sync"  # on which two nodes compare a group's logs
RandomBytes = Callable[[int], bytes]

# The nodes of a simulation hear the very same gossip, and begin with the very same log.
_SHORT_BYTES = 4096
_REMEMBERED_GOSSIP = 512
_REMEMBERED_LONG_GOSSIP = 2
_REMEMBERED_LOGS = 1


class Opened(NamedTuple):
    """What somebody gossiped: what kind of thing it is, the thing, and the hash of both."""

    kind: bytes
    body: bytes
    hash: Hash


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
        self._unkept: deque[OpenOperation] = deque()  # in the log, and not yet durable
        self._kept: list[OpenOperation] = []  # durable, and not yet told of by `keep`
        self.shut_at: dict[NodeId, str] = {}  # whose entrance says that we are out, and why; our own log may not
        self._is_too_old = False
        self._good: tuple[object, object, tuple[int, ...]] = (None, None, ())

    @property
    def group(self) -> GroupId:
        return self.log.group

    @property
    def is_too_old(self) -> bool:
        """Whether this version of fednode does not understand all that is in the group."""
        return self._is_too_old

    @cached_property
    def topic(self) -> str:
        """From what only its members ever read: to others it says nothing, not even which group it is."""
        first = next(iter(self.log)).raw
        return f"/fednode/{blake3(first, derive_key_context=_TOPIC_CONTEXT).hexdigest()}"

    @property
    def key(self) -> GroupKey:
        """What we gossip under: the newest good key that is here, or, while there is none, the newest."""
        return self.keys[next(iter(self.good_here()), max(self.keys))]

    def good_epochs(self) -> tuple[int, ...]:
        """As the state's, which is asked only when the group has other nodes or keys than before."""
        state = self.state()
        if self._good[0] is not state.nodes or self._good[1] is not state.rotations:
            self._good = state.nodes, state.rotations, state.good_epochs()
        return self._good[2]

    def good_here(self) -> list[int]:
        """The epochs of the good keys that we have, newest first."""
        return [epoch for epoch in self.good_epochs() if epoch in self.keys]

    def admits(self, peer: NodeId) -> bool:
        """Whether `peer` is in this group, and so are we."""
        nodes = self.state().nodes
        return peer in nodes and self._identity.node_id in nodes

    def is_member(self, node: NodeId) -> bool:
        """Whether `node` is in, as far as this version can tell: one that is too old puts nobody out of a run."""
        return self.state().admits(node) or self._is_too_old

    def revoked(self) -> RevokedNode | None:
        """How this very node was revoked by another of its member's; None while it was not."""
        return self.state().revoked.get(self._identity.node_id)

    def out(self) -> FormerMember | None:
        """How our own member was put out of the group, or left; None while it is in."""
        return self.state().former.get(self._identity.member_id)

    @property
    def turned_away(self) -> str:
        """Why a member's entrance says that we are out, while our own log does not; else ""."""
        return next((why for peer, why in self.shut_at.items() if self.admits(peer)), "")

    @property
    def has_unkept(self) -> bool:
        """Whether the disk has refused what the log holds: `keep` tries again."""
        return bool(self._unkept or self._kept)

    def state(self) -> GroupState:
        """What the log amounts to. Of a group for which this node is too old, the name alone: nobody of it is let in,
        nothing in it is acted on (docs/protocol.md §2.11), and the node's other groups go on."""
        try:
            return self.log.state()
        except NodeTooOld as error:
            if not self._is_too_old:
                self._is_too_old = True
                log.error("%s", error)
            first = next(iter(self.log)).payload
            assert isinstance(first, GroupCreate)
            return GroupState(self.group, name=first.name, first_key_is_good=False)  # which keys are, it cannot tell

    def check(self, payload: Payload, now: float) -> None:
        """Raises what `say` would, and says nothing."""
        draft(self.log, self._identity.keys.node, payload, claimed_at=int(now))

    async def say(self, payload: Payload, now: float) -> OpenOperation:
        """Write our own operation. Raises Refused when a rule would void it."""
        async with self._writing:
            operation = append(self.log, self._identity.keys.node, payload, claimed_at=int(now))
            self._unkept.append(operation)
            await self._write()
            self._kept.remove(operation)
        return operation

    async def keep(self, operations: Sequence[OpenOperation]) -> list[OpenOperation]:
        """Make operations durable that the log has taken in: call it before anything else may happen. Gives those that
        became so, also such as the disk refused earlier: in the order of the log's growth, so that what lies in the
        journal rests on nothing that does not."""
        self._unkept += operations  # now: whoever writes before us may rest on them, and we may be given up
        async with self._writing:
            await self._write()
            kept, self._kept = self._kept, []
        return list({operation.hash: operation for operation in (*kept, *operations)}.values())

    async def _write(self) -> None:
        while self._unkept:
            await self._disk.append(_journal(self.group), self._unkept[0].raw)
            self._kept.append(self._unkept.popleft())

    async def keep_keys(self) -> None:
        name = _key_file(self.group)
        await self._disk.write(name, self._identity.keys.vault.seal(name, _pack_keys(self.keys)))

    def seal(self, plain: bytes, random_bytes: RandomBytes) -> bytes:
        nonce = random_bytes(GOSSIP_NONCE_BYTES)
        return seal_gossip(self.key, self.group, self.topic, plain, nonce=nonce)

    def open(self, data: bytes) -> "Opened":
        """Raises RemoteProtocolError when `data` is not under a key of this group, and Refused when under one that
        somebody has who is out."""
        good = {epoch: self.keys[epoch] for epoch in self.good_here()}
        try:
            plain = open_gossip(good or self.keys, self.group, self.topic, data)
        except RemoteProtocolError:
            open_gossip(self.keys, self.group, self.topic, data)
            raise Refused(
                "old-key", "It is under a key that somebody has who is out of the group", remedy="nothing to do"
            ) from None
        return _taken_apart(plain) if len(plain) <= _SHORT_BYTES else _long_taken_apart(plain)

    def session(self, peer: NodeId) -> SyncSession:
        return self.sessions.setdefault(peer, SyncSession(self.log))


def _take_apart(plain: bytes) -> Opened:
    return Opened(plain[:1], plain[1:], hash_of(plain))


_taken_apart = lru_cache(maxsize=_REMEMBERED_GOSSIP)(_take_apart)
_long_taken_apart = lru_cache(maxsize=_REMEMBERED_LONG_GOSSIP)(_take_apart)


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
    raw_keys = await disk.read(_key_file(group))
    opened = identity.keys.vault.open(_key_file(group), raw_keys) if raw_keys else b"\xc0"
    try:
        log = _log_of(group, tuple(await disk.records(_journal(group)))).copy()
        packed: dict[str, bytes] = msgpack.unpackb(opened)
        keys = {int(epoch): GroupKey(int(epoch), secret) for epoch, secret in packed.items()}
    except (RemoteProtocolError, ValueError, AttributeError, TypeError) as error:
        raise _damaged(group, str(error)) from error
    return GroupPlace(log, keys, disk, identity)


def check_has_key(place: GroupPlace) -> None:
    """Call it once the log was looked through for keys. Raises FednodeError where there is none at all."""
    if not place.keys:
        raise _damaged(place.group, "there is no key in them")


def _damaged(group: GroupId, why: str) -> FednodeError:
    return FednodeError(
        f"The files of group {group[:12]} in the node's home are damaged ({why})",
        remedy="restore the home from a backup, or join the group again from an empty home",
    )


@lru_cache(maxsize=_REMEMBERED_LOGS)
def _log_of(group: GroupId, operations: tuple[bytes, ...]) -> GroupLog:
    """Not to be added to: a copy is."""
    log = GroupLog(group)
    for raw in operations:
        log.add(raw)
    with suppress(NodeTooOld):  # which is for whoever asks
        log.state()  # the copies have it
    return log


def as_stored(log: GroupLog, keys: Mapping[int, GroupKey]) -> tuple[dict[str, bytes], dict[str, list[bytes]]]:
    """The files and the journals that a node of the group has of it, by their names."""
    return {_key_file(log.group): _pack_keys(keys)}, {_journal(log.group): [operation.raw for operation in log]}


def _pack_keys(keys: Mapping[int, GroupKey]) -> bytes:
    return pack_plain({str(epoch): key.secret for epoch, key in keys.items()})


def _journal(group: GroupId) -> str:
    return f"group-{group}"


def _key_file(group: GroupId) -> str:
    return f"group-{group}.keys"
