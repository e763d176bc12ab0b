"""Who this node is: its keys, its member's key, and the certificate that binds the two."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.home.sealing import Vault
from node.seams import Disk
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.group.key import seal_key_of
from protocol.identity import make_certificate, open_certificate
from protocol.keys import MemberId, NodeId, member_id_of, node_id_of, public_key_of

CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of a home. `member`: None on a node that was linked, and only has its member's certificate.
    `seal_secret`: 32 bytes of X25519. `vault`: what the groups' keys lie under on the disk."""

    node: Ed25519PrivateKey = field(repr=False)
    member: Ed25519PrivateKey | None = field(repr=False)
    seal_secret: bytes = field(repr=False)
    vault: Vault = field(default=Vault(), compare=False)


@dataclass(slots=True)
class Identity:
    """This node, as others know it, and what it needs to speak for itself. The same object for as long as it runs."""

    keys: Keys
    name: str
    node_id: NodeId
    member_id: MemberId
    certificate: bytes

    def become(self, certificate: bytes, keys: Keys) -> None:
        """From now on a node of the certificate's member."""
        self.certificate, self.keys = certificate, keys
        self.member_id = open_certificate(certificate).member_id


async def load_identity(keys: Keys, name: str, member_name: str, disk: Disk, now: Callable[[], float]) -> Identity:
    """The identity of these keys. Its certificate is made once, and again when a name or the seal key has changed.

    Without the member's key it is the one that linking gave; its name counts then. Raises FednodeError without any."""
    node_id = node_id_of(public_key_of(keys.node))
    raw = await disk.read(CERTIFICATE)
    if keys.member is None:
        return _linked_identity(keys, node_id, raw)
    if raw is None or not _is_current(raw, keys, node_id, name, member_name):
        raw = make_certificate(
            keys.member,
            keys.node,
            member_name=member_name,
            node_name=name,
            seal_key=seal_key_of(keys.seal_secret),
            issued_at=int(now()),
        )
        await disk.write(CERTIFICATE, raw)
    return Identity(keys, name, node_id, member_id_of(public_key_of(keys.member)), raw)


def _linked_identity(keys: Keys, node_id: NodeId, raw: bytes | None) -> Identity:
    try:
        certificate = open_certificate(raw or b"")
    except RemoteProtocolError as error:
        raise _unlinked(error.what) from None
    if (certificate.node_id, certificate.seal_key) != (node_id, seal_key_of(keys.seal_secret)):
        raise _unlinked("it is another node's")
    return Identity(keys, certificate.node_name, node_id, certificate.member_id, raw or b"")


def _unlinked(why: str) -> FednodeError:
    return FednodeError(
        f"This node holds no member's key, and its certificate cannot be used: {why}",
        remedy="link it once more: fednode link on your other node, then fednode start --link TOKEN here",
    )


def _is_current(raw: bytes, keys: Keys, node_id: NodeId, name: str, member_name: str) -> bool:
    try:
        certificate = open_certificate(raw)
    except RemoteProtocolError:
        return False
    assert keys.member is not None
    wanted = (member_id_of(public_key_of(keys.member)), node_id, name, member_name, seal_key_of(keys.seal_secret))
    return wanted == (
        certificate.member_id,
        certificate.node_id,
        certificate.node_name,
        certificate.member_name,
        certificate.seal_key,
    )
