"""The entrance's conversations over real streams: let joiners in, join, introduce ourselves where nobody knows us yet.

What is said is decided by the pure machines in protocol (admitting, joining, introducing); here it is only carried.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from node.home.identity import Identity
from node.membership.group_place import GroupPlace, RandomBytes
from node.membership.knocks import Knocks
from node.network.complaints import Complaints
from node.network.dial_words import tried_in_words
from node.network.versions import OtherVersion
from node.seams import ENTRANCE_PROTOCOL, Network, Stream, StreamClosed, Unreachable
from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.introducing import Introduction, Welcomed
from protocol.entrance.invitation import Invitation
from protocol.entrance.joining import TRY_ANOTHER_ENTRANCE, Joined, Joining
from protocol.entrance.linking import Linking, LinkMade, ShutOut, SiblingKnock
from protocol.entrance.outputs import Close, KeepOperations, KeepSiblings, SendFrame, TurnedAway
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.group.operations import OpenOperation
from protocol.group.why_out import OUT_CODES
from protocol.keys import GroupId, NodeId
from protocol.limits import ENTRANCE_DEADLINE_S, FRAME_BYTES_MAX

if TYPE_CHECKING:
    from node.membership.siblings import SiblingNodes

log = logging.getLogger("fednode.entrance")

TURNED_AWAY_REMEMBERED = 1024  # strangers of whom it is known what they were told; of more, the first is told anew

Guest = Joining | Introduction | Linking | SiblingKnock
Outcome = Joined | Welcomed | LinkMade | ShutOut | TurnedAway
OnKept = Callable[[GroupPlace, Sequence[OpenOperation]], Awaitable[None]]
Known = Callable[[GroupPlace], tuple[bytes, ...]]


class Entrance:
    """Both ends of the entrance. `on_kept` is called when a stranger's word has made a group's log grow,
    `on_turned_away`, with a sentence, when a member says that this node is out."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        places: Mapping[GroupId, GroupPlace],
        *,
        known: Known,
        told: Callable[[NodeAddresses], None],
        siblings: "SiblingNodes",
        on_kept: OnKept,
        on_turned_away: Callable[[str], None],
        now: Callable[[], float],
        random_bytes: RandomBytes,
    ) -> None:
        self._identity = identity
        self._network = network
        self._places = places
        self._known = known
        self._told = told
        self._siblings = siblings
        self._on_kept = on_kept
        self._on_turned_away = on_turned_away
        self._complaints = Complaints(trio.current_time)  # who knocks again and again fills no log
        self._told_away: dict[NodeId, str] = {}  # what each stranger was turned away with the last time
        self.knocks = Knocks(trio.current_time)
        self._now = now
        self._random_bytes = random_bytes

    # --- the host's end ------------------------------------------------------------------------------------------
    async def serve(self, stream: Stream) -> None:
        """One stranger's conversation, as the network's handler of ENTRANCE_PROTOCOL."""
        with trio.move_on_after(ENTRANCE_DEADLINE_S):
            try:
                await self._host(stream)
            except RemoteProtocolError as error:
                log.warning("dropped a stranger at the entrance (%s): %s", stream.peer, error.what)
                await stream.reset()
            except StreamClosed:
                pass

    async def _host(self, stream: Stream) -> None:
        hosted = {group: Hosted(place.log, place.key, self._known(place)) for group, place in self._places.items()}
        host = EntranceHost(
            hosted,
            self._identity.keys.node,
            peer=stream.peer,
            nonce=self._random_bytes(32),
            ephemeral_secret=self._random_bytes(32),
            desk=self._siblings.desk(),
        )
        while not host.ended:
            frame = await stream.receive_frame(FRAME_BYTES_MAX)
            for output in host.receive(frame, now=int(self._now())):
                match output:
                    case SendFrame(frame):
                        await stream.send_frame(frame)
                    case KeepOperations(group, operations):
                        place = self._places[group]
                        await self._on_kept(place, await place.keep(operations))
                    case KeepSiblings():
                        await self._siblings.keep()
                    case Close(refused):
                        if refused is not None:
                            self._tell_turned_away(stream.peer, refused.what)
                        await stream.close()

    def _tell_turned_away(self, peer: NodeId, what: str) -> None:
        """Once, and again when it is for another reason: who is out knocks for as long as it has not understood."""
        if self._told_away.get(peer) == what:
            log.debug("turned %s away again: %s", peer, what)
            return
        if len(self._told_away) >= TURNED_AWAY_REMEMBERED:
            del self._told_away[next(iter(self._told_away))]
        self._told_away[peer] = what
        if told := self._complaints.told(peer, what):
            log.info("turned %s away: %s", peer, told)

    # --- the stranger's end --------------------------------------------------------------------------------------
    async def join(self, invitation: Invitation) -> tuple[Joined, NodeId]:
        """Knock where the token says, one after the other, until a node lets us in; and which that was.

        Raises Refused with the answer of the node that knew the invitation, or Unreachable when none answered.
        """
        turned_away: Refused | None = None
        other_version: OtherVersion | None = None
        silent: list[str] = []
        for entrance in invitation.entrances:
            peer = NodeId(entrance.node_id)
            if peer == self._identity.node_id:  # restored from a backup, it may hold a token of its own making
                silent.append("the token leads to this very node, which is not in the group")
                continue
            self._told(entrance)
            try:
                answer = await self._knock(invitation, peer)
            except (Unreachable, StreamClosed, RemoteProtocolError) as error:
                log.info("no admission at %s: %s", peer, error.what)
                other_version = error if isinstance(error, OtherVersion) else other_version
                silent.extend(_what_came_of(entrance, error))
                continue
            if isinstance(answer, Joined):
                return answer, peer
            turned_away = answer.reason
            if answer.reason.code not in TRY_ANOTHER_ENTRANCE:
                raise answer.reason
        if turned_away is not None:
            raise turned_away
        if other_version is not None:
            raise other_version
        tried = "; ".join(tried_in_words(silent)) or "the token names none"
        raise Unreachable(
            f"No member of {invitation.group_name} answered ({tried})",
            remedy="ask the one who invited you whether the node runs, and for a token with an address that can be "
            "reached from here (fednode invite --addr); see what this one has with fednode token show",
        )

    async def _knock(self, invitation: Invitation, peer: NodeId) -> Joined | TurnedAway:
        joining = Joining(
            invitation,
            group=invitation.group,
            certificate=self._identity.certificate,
            seal_secret=self._identity.keys.seal_secret,
            peer=peer,
        )
        outcome = await self.converse(peer, joining)
        assert isinstance(outcome, Joined | TurnedAway)
        return outcome

    async def enter(self, group: GroupId, peer: NodeId) -> Joined:
        """Enter a group of which our member is one already, at `peer`. Raises Refused or Unreachable."""
        certificate, seal_secret = self._identity.certificate, self._identity.keys.seal_secret
        joining = Joining(None, group=group, certificate=certificate, seal_secret=seal_secret, peer=peer)
        outcome = await self.converse(peer, joining)
        if isinstance(outcome, TurnedAway):
            raise outcome.reason
        assert isinstance(outcome, Joined)
        return outcome

    async def introduce(self, place: GroupPlace, peer: NodeId) -> bool:
        """Show `peer` that we are in the group. True when its door is open to us now. Raises nothing for a peer."""
        try:
            outcome = await self.converse(peer, Introduction(place.log, self._identity.node_id))
        except FednodeError as error:
            log.debug("could not introduce ourselves to %s: %s", peer, error.what)
            return False
        if isinstance(outcome, TurnedAway):
            self.knocks.turned_away(place.group, peer)
            self._note_turned_away(place, peer, outcome.reason)
        if isinstance(outcome, Welcomed):
            self.welcomed(place, peer)
        return isinstance(outcome, Welcomed)

    def welcomed(self, place: GroupPlace, peer: NodeId | None = None) -> None:
        """We are in after all: `peer` says so, or, without one, somebody has let us in anew."""
        self.knocks.welcomed(place.group, peer)
        for each in [peer] if peer else list(place.shut_at):
            place.shut_at.pop(each, None)

    def _note_turned_away(self, place: GroupPlace, peer: NodeId, reason: Refused) -> None:
        """What it says of us counts for nothing, and our owner is to know it."""
        entry = place.state().nodes.get(peer)
        who = entry.name if entry is not None else peer
        if reason.code not in OUT_CODES:
            if told := self._complaints.told(peer, reason.what):
                log.info("%s does not know us: %s", who, told)
            return
        is_news = place.turned_away != reason.what
        place.shut_at[peer] = reason.what
        if is_news:
            log.warning("%s does not let this node in any more: %s", who, reason.what)
            self._on_turned_away(f"{who} does not let this node in any more: {reason.what}")

    async def converse(self, peer: NodeId, machine: Guest) -> Outcome:
        return await converse(self._network, peer, machine)


async def converse(network: Network, peer: NodeId, machine: Guest) -> Outcome:
    """One conversation at `peer`'s entrance. Raises Unreachable, StreamClosed or RemoteProtocolError."""
    with trio.move_on_after(ENTRANCE_DEADLINE_S):
        stream = await network.open(peer, ENTRANCE_PROTOCOL)
        try:
            outputs = list(machine.open())
            while True:
                for output in outputs:
                    if not isinstance(output, SendFrame):
                        await stream.close()
                        return output
                    await stream.send_frame(output.frame)
                outputs = list(machine.receive(await stream.receive_frame(FRAME_BYTES_MAX)))
        except RemoteProtocolError:
            await stream.reset()
            raise
    raise StreamClosed(
        f"{peer} did not finish the conversation within {ENTRANCE_DEADLINE_S:.0f} s", remedy="try again later"
    )


def _what_came_of(entrance: NodeAddresses, error: FednodeError) -> Sequence[str]:
    """Of each address, in a few words, or of the conversation."""
    tried = error.tried if isinstance(error, Unreachable) else ()
    return tried or (f"{', '.join(entrance.entrance_addresses) or entrance.node_id}: {error.what}",)
