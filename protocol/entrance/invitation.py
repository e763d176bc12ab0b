"""Invitations: the token that lets somebody into a group, made by an admin's node and opened by the joiner's.

The token is signed by the inviter, which keeps it from being altered; whether the inviter may invite, only the group's
log can tell (see `joining`). It holds a secret: whoever has it can join. Rules: docs/protocol.md §4.
"""

from dataclasses import dataclass, field
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import Bytes32, Name, NodeAddresses, Role, Seconds
from protocol.group.admission import seed_public_key
from protocol.group.author import append
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import InvitePost
from protocol.group.operations import OpenOperation
from protocol.keys import GroupId, Hash, NodeId
from protocol.limits import ENTRANCES_MAX, GROUP_MEMBERS_MAX
from protocol.signing import open_signed, sign
from protocol.times import ago_text, clock_text, date_text
from protocol.token_text import PAYLOAD_BYTES_MAX, token_payload, token_text
from protocol.wire import Wire

INVITATION_TAG = "invitation"


class TokenBody(Wire):
    """What a token says. Hashes are bytes here, for a token should be short."""

    group: Bytes32
    group_name: Name
    invite: Bytes32
    seed: Bytes32
    role: Role
    uses: Annotated[int, Field(ge=1, le=GROUP_MEMBERS_MAX)]
    expires_at: Seconds
    entrances: Annotated[tuple[NodeAddresses, ...], Field(max_length=ENTRANCES_MAX)]


@dataclass(frozen=True, slots=True)
class Invitation:
    """An opened token. `seed` is the secret. `entrances`: nodes to knock at, in the inviter's order of preference."""

    group: GroupId
    group_name: str
    inviter: NodeId
    invite_id: Hash
    seed: bytes = field(repr=False)
    role: Role
    uses: int
    expires_at: int
    entrances: tuple[NodeAddresses, ...]


def invite(
    log: GroupLog,
    key: Ed25519PrivateKey,
    *,
    seed: bytes,
    role: Role,
    uses: int,
    expires_at: int,
    entrances: tuple[NodeAddresses, ...],
    now: int,
) -> tuple[OpenOperation, str]:
    """Post an invitation and make its token. `seed`: 32 random bytes, kept by nobody but the token's holders.

    The caller makes the operation durable and spreads it before it shows the token.

    Raises:
        Refused: a rule forbids it, or `expires_at` is past.
    """
    if expires_at <= now:
        raise Refused("expired", f"The expiry {date_text(expires_at)} is past", remedy="give a longer time")
    payload = InvitePost(seed_public_key=seed_public_key(seed), role=role, uses=uses, expires_at=expires_at)
    operation = append(log, key, payload, claimed_at=now)
    body = TokenBody(
        group=bytes.fromhex(log.group),
        group_name=log.state().name,
        invite=bytes.fromhex(operation.hash),
        seed=seed,
        role=role,
        uses=uses,
        expires_at=expires_at,
        entrances=entrances[:ENTRANCES_MAX],
    )
    return operation, make_token(key, body)


def make_token(key: Ed25519PrivateKey, body: TokenBody) -> str:
    """The token's text. Of what would make it too long, further addresses of a node go first, then the last nodes."""
    entrances = tuple(entrance.model_copy(update={"addresses": ()}) for entrance in body.entrances)
    raw = sign(key, INVITATION_TAG, body.model_copy(update={"entrances": entrances}))
    while len(raw) > PAYLOAD_BYTES_MAX:
        entrances = _shorter(entrances)
        raw = sign(key, INVITATION_TAG, body.model_copy(update={"entrances": entrances}))
    return token_text(raw)


def _shorter(entrances: tuple[NodeAddresses, ...]) -> tuple[NodeAddresses, ...]:
    """One address less, of the last of those nodes that have the most; one node less where each has but one."""
    most = max(len(entrance.entrance_addresses) for entrance in entrances)
    if most <= 1:
        return entrances[:-1]
    place = max(index for index, entrance in enumerate(entrances) if len(entrance.entrance_addresses) == most)
    fewer = entrances[place].model_copy(update={"entrance_addresses": entrances[place].entrance_addresses[:-1]})
    return (*entrances[:place], fewer, *entrances[place + 1 :])


def open_token(text: str, *, now: int) -> Invitation:
    """Check a token as somebody pasted it, before anything is dialled. `now`: seconds since 1970.

    Raises:
        Refused: code not-a-token, newer-token, truncated, mistyped, forged or expired, each with what to do.
    """
    invitation = read_token(text)
    if now > invitation.expires_at:
        raise Refused(
            "expired",
            f"The invitation to {invitation.group_name} expired {ago_text(invitation.expires_at, now)}: by this"
            f" machine's clock it is {clock_text(now)}",
            remedy="ask for a new invitation, or set this machine's clock if it is wrong",
        )
    return invitation


def read_token(text: str) -> Invitation:
    """What a token says, expired or not, without using it.

    Raises:
        Refused: code not-a-token, newer-token, truncated, mistyped or forged, each with what to do.
    """
    raw = token_payload(text)
    try:
        signed = open_signed(TokenBody, raw, INVITATION_TAG, PAYLOAD_BYTES_MAX)
    except RemoteProtocolError as error:
        raise Refused(
            "forged",
            f"The token was made or altered by somebody who may not ({error.what})",
            remedy="ask the one who invited you for a new one, over a channel that you trust",
        ) from None
    body, inviter = signed.body, signed.node_id
    return Invitation(
        group=GroupId(body.group.hex()),
        group_name=body.group_name,
        inviter=inviter,
        invite_id=Hash(body.invite.hex()),
        seed=body.seed,
        role=body.role,
        uses=body.uses,
        expires_at=body.expires_at,
        entrances=body.entrances,
    )
