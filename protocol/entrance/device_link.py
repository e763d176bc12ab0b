"""Device tokens: one makes a further machine a node of the same member. Made by a node that holds the member's key.

The token is signed by the member itself, so that who opens it knows whose node it becomes. It holds a secret: whoever
uses it first has a node of the member. Rules: docs/protocol.md §10.
"""

from dataclasses import dataclass, field
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import Bytes32, Name, NodeAddresses, Seconds
from protocol.group.admission import seed_public_key
from protocol.keys import Hash, MemberId, NodeId, member_id_of
from protocol.signing import open_signed, sign
from protocol.times import ago_text, clock_text
from protocol.token_text import DEVICE_LINK, PAYLOAD_BYTES_MAX, token_payload, token_text
from protocol.wire import Wire

DEVICE_LINK_TAG = "device-link"
_HOSTS_MAX = 1  # only the node that has made the token knows whether it was used


class DeviceTokenBody(Wire):
    """What a device token says; whose it is, its signature says. `hosts`: where to knock with it."""

    member_name: Name
    seed: Bytes32
    expires_at: Seconds
    hosts: Annotated[tuple[NodeAddresses, ...], Field(min_length=1, max_length=_HOSTS_MAX)]


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """An opened device token. `seed` is the secret; `link_id` its public half, in hex. `host`: the node to knock at."""

    member_id: MemberId
    member_name: str
    seed: bytes = field(repr=False)
    expires_at: int
    host: NodeAddresses

    @property
    def link_id(self) -> Hash:
        return link_id_of(self.seed)

    @property
    def host_id(self) -> NodeId:
        return NodeId(self.host.node_id)


def link_id_of(seed: bytes) -> Hash:
    """By what a token is known without giving it away."""
    return Hash(seed_public_key(seed).hex())


def make_device_token(
    member_key: Ed25519PrivateKey, *, member_name: str, seed: bytes, expires_at: int, host: NodeAddresses
) -> str:
    """The token's text. `seed`: 32 random bytes, kept by nobody but the token's holder.

    The caller makes the link durable (`Siblings.open_link`) before it shows the token.
    """
    entrances = host.model_copy(update={"addresses": ()})
    body = DeviceTokenBody(member_name=member_name, seed=seed, expires_at=expires_at, hosts=(entrances,))
    while len(raw := sign(member_key, DEVICE_LINK_TAG, body)) > PAYLOAD_BYTES_MAX:
        entrances = entrances.model_copy(update={"entrance_addresses": entrances.entrance_addresses[:-1]})
        body = body.model_copy(update={"hosts": (entrances,)})
    return token_text(raw, DEVICE_LINK)


def open_device_token(text: str, *, now: int | None) -> DeviceToken:
    """Check a device token as somebody pasted it, before anything is dialled. `now`: seconds since 1970; None for
    whoever has used it already, to whom its expiry is nothing.

    Raises:
        Refused: code not-a-token, newer-token, truncated, mistyped, forged or expired, each with what to do.
    """
    raw = token_payload(text, DEVICE_LINK)
    try:
        signed = open_signed(DeviceTokenBody, raw, DEVICE_LINK_TAG, PAYLOAD_BYTES_MAX)
    except RemoteProtocolError as error:
        raise Refused(
            "forged",
            f"The device token was made or altered by somebody who may not ({error.what})",
            remedy="make a new one on your other machine: fednode link",
        ) from None
    body = signed.body
    if now is not None and now > body.expires_at:
        raise Refused(
            "expired",
            f"The device token of {body.member_name} expired {ago_text(body.expires_at, now)}: by this"
            f" machine's clock it is {clock_text(now)}",
            remedy="make a new one with fednode link, or set this machine's clock if it is wrong",
        )
    return DeviceToken(member_id_of(signed.public_key), body.member_name, body.seed, body.expires_at, body.hosts[0])
