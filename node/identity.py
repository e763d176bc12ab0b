"""Who this node is: its keys, its member's key, and the certificate that binds the two."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.seams import Disk
from protocol.errors import RemoteProtocolError
from protocol.group_key import seal_key_of
from protocol.identity import make_certificate, open_certificate
from protocol.keys import MemberId, NodeId, member_id_of, node_id_of, public_key_of

_CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of a home. `seal_secret`: 32 bytes of X25519."""

    node: Ed25519PrivateKey = field(repr=False)
    member: Ed25519PrivateKey = field(repr=False)
    seal_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """This node, as others know it, and what it needs to speak for itself."""

    keys: Keys
    name: str
    node_id: NodeId
    member_id: MemberId
    certificate: bytes


async def load_identity(keys: Keys, name: str, member_name: str, disk: Disk, now: Callable[[], float]) -> Identity:
    """The identity of these keys. Its certificate is made once, and again when a name or the seal key has changed."""
    node_id = node_id_of(public_key_of(keys.node))
    raw = await disk.read(_CERTIFICATE)
    if raw is None or not _is_current(raw, keys, node_id, name, member_name):
        raw = make_certificate(
            keys.member,
            keys.node,
            member_name=member_name,
            node_name=name,
            seal_key=seal_key_of(keys.seal_secret),
            issued_at=int(now()),
        )
        await disk.write(_CERTIFICATE, raw)
    return Identity(keys, name, node_id, member_id_of(public_key_of(keys.member)), raw)


def _is_current(raw: bytes, keys: Keys, node_id: NodeId, name: str, member_name: str) -> bool:
    try:
        certificate = open_certificate(raw)
    except RemoteProtocolError:
        return False
    wanted = (member_id_of(public_key_of(keys.member)), node_id, name, member_name, seal_key_of(keys.seal_secret))
    return wanted == (
        certificate.member_id,
        certificate.node_id,
        certificate.node_name,
        certificate.member_name,
        certificate.seal_key,
    )
