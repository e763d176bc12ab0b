"""The keys of this node's groups: made anew when somebody is out, taken from the log, handed to whom they passed by.

Rules: docs/protocol.md §5.9 to §5.13.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Literal

import trio
from pydantic import Field

from node.home.identity import Identity
from node.membership.group_place import GroupPlace
from node.network.complaints import Complaints
from node.network.links import Links
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.fields import GroupIdText
from protocol.group.key import (
    GROUP_KEY_BYTES,
    SEALED_KEY_BYTES,
    GroupKey,
    commitment_of,
    open_sealed,
    seal_to,
    seal_to_all,
    sealed_for,
)
from protocol.group.operation_kinds import KeyRotate, Payload
from protocol.group.state import FormerMember, GroupState, RevokedNode
from protocol.keys import GroupId, Hash, NodeId
from protocol.limits import EPOCH_MAX, EPOCH_STEP
from protocol.run.voters import lot
from protocol.wire import Wire, pack, unpack

log = logging.getLogger("fednode.groups")

KEY_CHANNEL = "key"
# How much longer each further admin's node waits for a new key before it makes one: two rounds of gossip, and a fetch.
ROTATE_WAIT_S = 5.0
ROTATE_AGAIN_S = 30.0  # after a failure of our own disk
# Between the last new key and the next, unless we put somebody out ourselves: a member that binds nodes of its own and
# revokes them again and again must not make the admins' nodes seal keys to everybody all the time.
ROTATE_GAP_S = 60.0
# Good ones, and as many others. What is older nobody gossips under any more; where a removal turns out to be void, and
# a key that was forgotten is good again, the group hands it on, or makes a new one.
KEYS_KEPT = 8
_MESSAGE_BYTES_MAX = 1024
_ASKED_MAX = 3  # peers at once: one of them has it, or soon will, and is asked again

Say = Callable[[GroupPlace, Payload], Awaitable[object]]


class HandedKey(Wire):
    """A key of the group for the one who gets this, sealed to its node."""

    type: Literal["key"] = "key"
    group: GroupIdText
    epoch: Annotated[int, Field(ge=1, le=EPOCH_MAX)]
    sealed: Annotated[bytes, Field(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]


class AskedKey(Wire):
    """I am in the group, and this key was not sealed to me: hand it on."""

    type: Literal["ask"] = "ask"
    group: GroupIdText
    epoch: Annotated[int, Field(ge=1, le=EPOCH_MAX)]


_Message = Annotated[HandedKey | AskedKey, Field(discriminator="type")]


class GroupKeys:
    """Keeps the keys of `places` up to date. Start `run` in a nursery; call `look` whenever a group's log has grown."""

    def __init__(
        self,
        identity: Identity,
        places: Mapping[GroupId, GroupPlace],
        links: Links,
        *,
        say: Say,
        random_bytes: Callable[[int], bytes],
        connected: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._identity = identity
        self._places = places
        self._links = links
        self._say = say
        self._random_bytes = random_bytes
        self._connected = connected
        self._complaints = Complaints(trio.current_time)
        self._changed = trio.Event()
        self._due: dict[GroupId, tuple[object, float]] = {}  # the nodes without a good key, and when we are to make one
        self._newest: dict[GroupId, tuple[int, float]] = {}  # the newest epoch in the log, and when it came, likewise
        self._answered: dict[GroupId, set[Hash]] = {}  # what we said that put somebody out, and made a new key for

    async def look(self, place: GroupPlace) -> None:
        """Take the keys in that the log has for us, and ask for the newest. Raises FednodeError for our disk."""
        state, me = place.state(), self._identity.node_id
        self._note_newest(place)
        # The first key stands in no log: who came when there was another has none, and misses none.
        missing = [epoch for epoch in place.good_epochs()[:KEYS_KEPT] if epoch not in place.keys]
        news = [epoch for epoch in missing if epoch in state.rotations]
        for epoch in news:
            payload = place.log[state.rotations[epoch].operation].payload
            sealed = sealed_for(payload.sealed, me) if isinstance(payload, KeyRotate) else None
            if sealed is not None and (wrong := await self._take(place, epoch, sealed)):
                log.warning("%s", wrong)
        self.ask(place, [peer for peer in sorted(self._connected()) if place.admits(peer)][:_ASKED_MAX])
        self._changed.set()

    async def run(self) -> None:
        """Make new keys where they are needed and it is our turn, until cancelled."""
        while True:
            now = trio.current_time()
            next_at = float("inf")
            for place in list(self._places.values()):
                due = self._due_at(place)
                if due is not None and due <= now:
                    due = await self._rotate(place)
                next_at = min(next_at, due if due is not None else next_at)
            with trio.move_on_at(next_at):
                await self._changed.wait()
            self._changed = trio.Event()

    def ask(self, place: GroupPlace, peers: Iterable[NodeId]) -> None:
        """Ask `peers` for the newest good key, if it is not here: it was made by somebody who did not know us yet."""
        epoch = next(iter(place.good_epochs()), 0)
        if epoch and epoch not in place.keys and place.out() is None:  # nobody hands on the first one
            for peer in peers:
                message = pack(AskedKey(group=place.group, epoch=epoch))
                self._links.send(peer, KEY_CHANNEL, message, kind=place.group)

    async def on_message(self, peer: NodeId, payload: bytes) -> None:
        """A peer asks for a key, or hands one on. Raises RemoteProtocolError for what is neither."""
        message: HandedKey | AskedKey = unpack(_Message, payload, _MESSAGE_BYTES_MAX)  # type: ignore[arg-type]
        place = self._places.get(message.group)
        if place is None or not place.admits(peer):
            return
        if isinstance(message, AskedKey):
            self._hand_on(place, peer, message.epoch)
        elif message.epoch not in place.keys and message.epoch in place.state().rotations:
            wrong = await self._take(place, message.epoch, message.sealed)
            if wrong and (told := self._complaints.told(peer, wrong)):
                log.warning("%s handed on a key that is none: %s", peer, told)

    def _hand_on(self, place: GroupPlace, peer: NodeId, epoch: int) -> None:
        key = place.keys.get(epoch)
        if key is None or epoch not in place.good_epochs():
            return
        secret = self._random_bytes(32)
        sealed = seal_to(place.state().nodes[peer].seal_key, key, place.group, ephemeral_secret=secret)
        message = HandedKey(group=place.group, epoch=epoch, sealed=sealed)
        self._links.send(peer, KEY_CHANNEL, pack(message))

    async def _take(self, place: GroupPlace, epoch: int, sealed: bytes) -> str:
        """Why it is no key for us; "" where it is one."""
        try:
            key = open_sealed(self._identity.keys.seal_secret, sealed, place.group, epoch)
        except RemoteProtocolError as error:
            return f"a new key of {place.state().name} is not for us: {error.what}"
        if commitment_of(key) != place.state().rotations[epoch].commitment:
            return f"a new key of {place.state().name} is not the one that was announced"
        place.keys[key.epoch] = key
        _forget_the_oldest(place)
        await place.keep_keys()
        return ""

    def _due_at(self, place: GroupPlace) -> float | None:
        """When we are to make a new key, by trio's clock; None while we have a good one, or it is not ours to make. One
        that nobody hands us, though its maker says that there is one, must not keep the group from having a key."""
        state, me = place.state(), self._identity.node_id
        member = state.member_of(me)
        if place.good_here() or member is None or member.role != "admin":
            self._due.pop(place.group, None)
            return None
        known = self._due.get(place.group)
        if known is None or known[0] is not state.nodes:
            admins = [node for entry in state.members.values() if entry.role == "admin" for node in entry.nodes]
            rank = sorted(admins, key=lambda node: lot(place.group, node)).index(me) + 1
            due = max(trio.current_time() + rank * ROTATE_WAIT_S, self._note_newest(place) + ROTATE_GAP_S)
            is_ours = _put_out_by(state, me) - self._answered.get(place.group, set())
            self._due[place.group] = known = state.nodes, trio.current_time() if is_ours else due
        return known[1]

    def _note_newest(self, place: GroupPlace) -> float:
        """When the group's newest key came, as far as we have seen it come."""
        epoch = max(place.state().rotations, default=0)
        known = self._newest.get(place.group)
        if known is None or known[0] != epoch:
            came = trio.current_time() if known is not None else float("-inf")  # at our start there is no telling
            self._newest[place.group] = known = epoch, came
        return known[1]

    async def _rotate(self, place: GroupPlace) -> float | None:
        """Make a new key. When to try again, or None."""
        state = place.state()
        step = (max(state.rotations, default=0) // EPOCH_STEP + 1) * EPOCH_STEP
        epoch = step + int.from_bytes(self._random_bytes(4), "big") % EPOCH_STEP
        key = GroupKey(epoch, self._random_bytes(GROUP_KEY_BYTES))
        nodes = {node: entry.seal_key for node, entry in state.nodes.items()}
        sealed = seal_to_all(nodes, key, place.group, ephemeral_secrets=[self._random_bytes(32) for _ in nodes])
        try:
            await self._say(place, KeyRotate(epoch=epoch, commitment=commitment_of(key), sealed=sealed))
        except Refused as refused:  # the group has changed meanwhile
            log.debug("no new key for %s: %s", state.name, refused.what)
            return trio.current_time() + ROTATE_WAIT_S
        except FednodeError as error:
            log.error("no new key for %s yet: %s", state.name, error)
            return trio.current_time() + ROTATE_AGAIN_S
        self._answered[place.group] = _put_out_by(state, self._identity.node_id)
        log.info("made a new key for %s, for %d nodes", state.name, len(nodes))
        return None


def _put_out_by(state: GroupState, me: NodeId) -> set[Hash]:
    """What this node said by which the last to go went."""
    newest: list[FormerMember | RevokedNode] = [*list(state.former.values())[-1:], *list(state.revoked.values())[-1:]]
    return {out.operation for out in newest if out.by == me}


def _forget_the_oldest(place: GroupPlace) -> None:
    good = set(place.good_epochs()[:KEYS_KEPT])
    for epoch in sorted(place.keys.keys() - good)[:-KEYS_KEPT]:
        del place.keys[epoch]
