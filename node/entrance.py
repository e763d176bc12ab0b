"""The entrance's conversations over real streams: let joiners in, join, introduce ourselves where nobody knows us yet.

What is said is decided by the pure machines in protocol (admitting, joining, introducing); here it is only carried.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from node.group_place import GroupPlace, RandomBytes
from node.identity import Identity
from node.seams import ENTRANCE_PROTOCOL, Network, Stream, StreamClosed, Unreachable
from protocol.admitting import EntranceHost, Hosted
from protocol.entrance_outputs import Close, KeepOperations, SendFrame, TurnedAway
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.introducing import Introduction, Welcomed
from protocol.introduction_host import FORMER_CODES
from protocol.invitation import Invitation
from protocol.joining import TRY_ANOTHER_ENTRANCE, Joined, Joining
from protocol.keys import GroupId, NodeId
from protocol.limits import ENTRANCE_DEADLINE_S, FRAME_BYTES_MAX
from protocol.operations import OpenOperation

log = logging.getLogger("fednode.entrance")

OnKept = Callable[[GroupPlace, Sequence[OpenOperation]], Awaitable[None]]
Known = Callable[[GroupPlace], tuple[NodeAddresses, ...]]


class Entrance:
    """Both ends of the entrance. `on_kept` is called when a stranger's word has made a group's log grow."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        places: Mapping[GroupId, GroupPlace],
        *,
        known: Known,
        on_kept: OnKept,
        now: Callable[[], float],
        random_bytes: RandomBytes,
    ) -> None:
        self._identity = identity
        self._network = network
        self._places = places
        self._known = known
        self._on_kept = on_kept
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
        )
        while not host.ended:
            frame = await stream.receive_frame(FRAME_BYTES_MAX)
            for output in host.receive(frame, now=int(self._now())):
                match output:
                    case SendFrame(frame):
                        await stream.send_frame(frame)
                    case KeepOperations(group, operations):
                        place = self._places[group]
                        await place.keep(operations)
                        await self._on_kept(place, operations)
                    case Close(refused):
                        if refused is not None:
                            log.info("turned %s away: %s", stream.peer, refused.what)
                        await stream.close()

    # --- the stranger's end --------------------------------------------------------------------------------------
    async def join(self, invitation: Invitation) -> tuple[Joined, NodeId]:
        """Knock where the token says, one after the other, until a node lets us in; and which that was.

        Raises Refused with the answer of the node that knew the invitation, or Unreachable when none answered.
        """
        turned_away: Refused | None = None
        silent: list[str] = []
        for entrance in invitation.entrances:
            peer = NodeId(entrance.node_id)
            self._network.learn(peer, entrance.addresses, entrance.entrance_addresses)
            try:
                answer = await self._knock(invitation, peer)
            except (Unreachable, StreamClosed, RemoteProtocolError) as error:
                log.info("no admission at %s: %s", peer, error.what)
                silent.append(f"{', '.join(entrance.entrance_addresses) or peer}: {error.what}")
                continue
            if isinstance(answer, Joined):
                return answer, peer
            turned_away = answer.reason
            if answer.reason.code not in TRY_ANOTHER_ENTRANCE:
                raise answer.reason
        if turned_away is not None:
            raise turned_away
        raise Unreachable(
            f"No member of {invitation.group_name} answered ({'; '.join(silent) or 'the token names none'})",
            remedy="check that one of these nodes is running and can be reached from here, then try again",
        )

    async def _knock(self, invitation: Invitation, peer: NodeId) -> Joined | TurnedAway:
        joining = Joining(
            invitation,
            group=invitation.group,
            certificate=self._identity.certificate,
            seal_secret=self._identity.keys.seal_secret,
            peer=peer,
        )
        outcome = await self._converse(peer, joining)
        assert isinstance(outcome, Joined | TurnedAway)
        return outcome

    async def introduce(self, place: GroupPlace, peer: NodeId) -> bool:
        """Show `peer` that we are in the group. True when its door is open to us now. Raises nothing for a peer."""
        try:
            outcome = await self._converse(peer, Introduction(place.log, self._identity.node_id))
        except FednodeError as error:
            log.debug("could not introduce ourselves to %s: %s", peer, error.what)
            return False
        if isinstance(outcome, TurnedAway):
            log.info("%s does not know us: %s", peer, outcome.reason.what)
            place.turned_away = outcome.reason.what if outcome.reason.code in FORMER_CODES else ""
        if isinstance(outcome, Welcomed):
            place.turned_away = ""
        return isinstance(outcome, Welcomed)

    async def _converse(self, peer: NodeId, machine: Joining | Introduction) -> Joined | TurnedAway | Welcomed:
        with trio.move_on_after(ENTRANCE_DEADLINE_S):
            stream = await self._network.open(peer, ENTRANCE_PROTOCOL)
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
