"""The joiner's end of the entrance: from a token to a verified log, the group's key, and a place in the group.

Sans-I/O: frames in, outputs as data. The joiner believes the log alone: that the group is the token's, that the
invitation is what the token says, and that the group's rules have let this node in. Rules: docs/protocol.md §4.
"""

from dataclasses import dataclass

from protocol.entrance.invitation import Invitation
from protocol.entrance.messages import (
    Admitted,
    Challenge,
    Hello,
    LogPart,
    Proof,
    Refusal,
    open_entrance_message,
)
from protocol.entrance.outputs import SendFrame, TurnedAway, send
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.address_record import records_of_nodes
from protocol.group.admission import AdmissionStatement, prove, seed_public_key
from protocol.group.key import GroupKey, open_sealed
from protocol.group.log import GroupLog
from protocol.group.reducer import NodeTooOld
from protocol.group.state import GroupState
from protocol.identity import open_certificate
from protocol.keys import GroupId, Hash, NodeId
from protocol.limits import JOIN_LOG_BYTES_MAX

# Refusals that say nothing about the joiner: another node of the group may well let it in.
TRY_ANOTHER_ENTRANCE = frozenset({"unknown-invitation", "not-admitting", "not-a-member"})


@dataclass(frozen=True, slots=True)
class Joined:
    """We are in. Make the log's operations and the key durable, then open the door to its nodes and dial them where
    `known`, their address records, says."""

    log: GroupLog
    group_key: GroupKey
    known: tuple[bytes, ...]


JoinOutput = SendFrame | Joined | TurnedAway


class Joining:
    """One attempt at one entrance. Send what `open` gives, then hand every received frame to `receive`.

    `peer` is the node at the other end as the stream has authenticated it. With an invitation this joins its group;
    with None, `group` must be given, and the node enters a group of which its member is one already.
    """

    def __init__(
        self,
        invitation: Invitation | None,
        *,
        group: GroupId,
        certificate: bytes,
        seal_secret: bytes,
        peer: NodeId,
    ) -> None:
        self._invitation = invitation
        self._certificate = certificate
        self._us = open_certificate(certificate)
        self._seal_secret = seal_secret
        self._peer = peer
        self._log = GroupLog(group)
        self._log_bytes = 0
        self._challenged = False
        self.ended = False

    def open(self) -> list[JoinOutput]:
        invite_id = self._invitation.invite_id if self._invitation else Hash("")
        return [send(Hello(group=self._log.group, invite_id=invite_id, certificate=self._certificate))]

    def receive(self, frame: bytes) -> list[JoinOutput]:
        """What to do about `frame`. After Joined or TurnedAway nothing more comes: close the stream.

        Raises:
            RemoteProtocolError: the other end does not keep to the protocol: reset, and try another entrance.
        """
        message = open_entrance_message(frame)
        if self.ended:
            raise RemoteProtocolError("An entrance went on talking after the end")
        match message:
            case Refusal():
                return self._end(TurnedAway(message.as_error()))
            case Challenge() if self._invitation and not self._challenged and not len(self._log):
                self._challenged = True
                return [self._prove(self._invitation, message.nonce)]
            case LogPart():
                self._take(message.operations)
                return []
            case Admitted():
                self._take(message.operations)
                return self._end(self._enter(message))
            case _:
                raise RemoteProtocolError(f"An entrance said {message.type} where it does not belong")

    def _prove(self, invitation: Invitation, nonce: bytes) -> SendFrame:
        statement = AdmissionStatement(
            group=self._log.group,
            invite_id=invitation.invite_id,
            member_id=self._us.member_id,
            node_id=self._us.node_id,
            admitter=self._peer,
            nonce=nonce,
        )
        return send(Proof(signature=prove(invitation.seed, statement)))

    def _take(self, operations: tuple[bytes, ...]) -> None:
        for raw in operations:
            self._log_bytes += len(raw)
            if self._log_bytes > JOIN_LOG_BYTES_MAX:
                raise RemoteProtocolError(f"An admitter sent a log of more than {JOIN_LOG_BYTES_MAX} bytes")
            if self._log.add(raw, may_wait=False).missing:
                raise RemoteProtocolError("An admitter sent a log with holes in it")

    def _enter(self, message: Admitted) -> Joined | TurnedAway:
        try:
            state = self._log.state()
            if not state.admits(self._peer):
                raise RemoteProtocolError("Somebody who is no member of the group claimed to admit us")
            if self._invitation:
                _check_token_tells_the_truth(self._invitation, state)
            _check_we_are_in(state, self._us.node_id)
        except Refused as refused:
            return TurnedAway(refused)
        except NodeTooOld as error:
            return TurnedAway(Refused("too-old", error.what, remedy=error.remedy))
        key = open_sealed(self._seal_secret, message.sealed_key, self._log.group, message.epoch)
        return Joined(self._log, key, records_of_nodes(message.known, state))

    def _end(self, output: Joined | TurnedAway) -> list[JoinOutput]:
        self.ended = True
        return [output]


def _check_token_tells_the_truth(invitation: Invitation, state: GroupState) -> None:
    posted = state.invitations.get(invitation.invite_id)
    if (
        posted is None
        or posted.by != invitation.inviter
        or posted.seed_public_key != seed_public_key(invitation.seed)
        or (posted.role, posted.uses, posted.expires_at) != (invitation.role, invitation.uses, invitation.expires_at)
        or state.name != invitation.group_name
    ):
        raise Refused(
            "forged",
            "The token says other things about the group than the group's own log",
            remedy="ask the one who invited you for a new one, over a channel that you trust",
        )


def _check_we_are_in(state: GroupState, node_id: NodeId) -> None:
    if not state.admits(node_id):
        raise Refused(
            "not-admitted",
            f"The admission to {state.name} was voided, for others used up the invitation first",
            remedy="ask for a new invitation",
        )
