"""Both ends of an entrance conversation, for the tests."""

from dataclasses import dataclass

from group_helpers import (
    ANN,
    BOB,
    GROUP_KEY,
    NOW,
    WEEK,
    Person,
    address_record,
    secret,
)

from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.invitation import Invitation, invite, open_token
from protocol.entrance.joining import Joined, Joining, JoinOutput
from protocol.entrance.outputs import Close, HostOutput, KeepOperations, SendFrame, TurnedAway
from protocol.fields import NodeAddresses, Role
from protocol.group.log import GroupLog
from protocol.keys import GroupId
from protocol.wire import Wire, pack

KNOWN = (address_record(ANN),)
ENTRANCES = (NodeAddresses(node_id=ANN.node_id, entrance_addresses=("/ip4/192.0.2.7/tcp/4002",)),)


@dataclass
class Talk:
    """What came of a whole conversation."""

    joined: Joined | None
    turned_away: str
    kept: list[KeepOperations]
    closed: Close | None
    frames: list[bytes]


def token(log: GroupLog, *, uses: int = 1, role: Role = "member", number: int = 0) -> Invitation:
    _, text = invite(
        log,
        ANN.key,
        seed=secret("seed", number),
        role=role,
        uses=uses,
        expires_at=NOW + WEEK,
        entrances=ENTRANCES,
        now=NOW,
    )
    return open_token(text, now=NOW)


def host(
    log: GroupLog,
    *,
    by: Person = ANN,
    peer: Person = BOB,
    nonce: object = 1,
    known: tuple[bytes, ...] = KNOWN,
) -> EntranceHost:
    return EntranceHost(
        {log.group: Hosted(log, GROUP_KEY, known)},
        by.key,
        peer=peer.node_id,
        nonce=secret("nonce", nonce),
        ephemeral_secret=secret("ephemeral", nonce),
    )


def joiner(invitation: Invitation | None, who: Person = BOB, *, at: Person = ANN, group: GroupId = GroupId("")):
    return Joining(
        invitation,
        group=invitation.group if invitation else group,
        certificate=who.certificate,
        seal_secret=who.seal_secret,
        peer=at.node_id,
    )


def talk(guest: Joining, at: EntranceHost, *, now: int = NOW) -> Talk:
    """Carry frames to and fro until the guest's end has its result."""
    result = Talk(None, "", [], None, [])
    to_host: list[JoinOutput] = guest.open()
    while not guest.ended:
        to_guest: list[HostOutput] = []
        for output in to_host:
            assert isinstance(output, SendFrame)
            result.frames.append(output.frame)
            to_guest += at.receive(output.frame, now=now)
        to_host = []
        for heard in to_guest:
            if isinstance(heard, SendFrame):
                result.frames.append(heard.frame)
                to_host += guest.receive(heard.frame)
            elif isinstance(heard, KeepOperations):
                result.kept.append(heard)
            else:
                result.closed = heard
        assert to_host or not to_guest or not guest.ended or result.closed
    (outcome,) = to_host
    if isinstance(outcome, Joined):
        result.joined = outcome
    elif isinstance(outcome, TurnedAway):
        result.turned_away = outcome.reason.code
    assert at.ended
    return result


def frame(message: Wire) -> bytes:
    return pack(message)
