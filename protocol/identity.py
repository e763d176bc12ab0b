"""Node certificates: which member a node belongs to, said by the member and agreed to by the node; and their end.

The member's signature keeps others from putting nodes under its name; the node's consent keeps a member from claiming
a node of somebody else's. Rules: docs/protocol.md §1.
"""

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import RemoteProtocolError
from protocol.fields import Bytes32, MemberIdText, Name, NodeIdText, Seconds, SignatureBytes, require_name
from protocol.keys import (
    MemberId,
    NodeId,
    member_id_of,
    member_public_key,
    node_id_of,
    node_public_key,
    public_key_of,
    seal_key_is_usable,
    signature_is_valid,
)
from protocol.signing import open_signed, sign
from protocol.wire import Wire

CERTIFICATE_TAG = "node-certificate"
CERTIFICATE_BYTES_MAX = 2048  # two names of 80 four-byte characters, two ids, a key, a signature: about 1,100
REVOCATION_TAG = "node-revocation"
REVOCATION_BYTES_MAX = 512  # two ids, a time: about 200
_CONSENT_PREFIX = b"fednode/node-consent/1\n"
# A group of a thousand nodes is folded again and again from the same certificates. Some 1.5 KB each.
_REMEMBERED_CERTIFICATES = 8192
_REMEMBERED_REVOCATIONS = 1024


class NodeCertificate(Wire):
    """That `node_id` is a node of `member_id`. `seal_key`: the node's X25519 public key, for what is sealed to it."""

    member_id: MemberIdText
    node_id: NodeIdText
    member_name: Name
    node_name: Name
    seal_key: Bytes32
    issued_at: Seconds
    node_consent: SignatureBytes


def make_certificate(
    member_key: Ed25519PrivateKey,
    node_key: Ed25519PrivateKey,
    *,
    member_name: str,
    node_name: str,
    seal_key: bytes,
    issued_at: int,
) -> bytes:
    """The raw certificate. A later one (`issued_at`, seconds) of the same node replaces its name and seal key."""
    body = NodeCertificate(
        member_id=member_id_of(public_key_of(member_key)),
        node_id=node_id_of(public_key_of(node_key)),
        member_name=require_name(member_name, "a member"),
        node_name=require_name(node_name, "a node"),
        seal_key=seal_key,
        issued_at=issued_at,
        node_consent=consent_to(member_id_of(public_key_of(member_key)), node_key, seal_key),
    )
    return sign_certificate(member_key, body)


def consent_to(member_id: MemberId, node_key: Ed25519PrivateKey, seal_key: bytes) -> bytes:
    """The node's word that it belongs to `member_id`, and that `seal_key` is its own."""
    return node_key.sign(_consent(member_id, node_id_of(public_key_of(node_key)), seal_key))


def sign_certificate(member_key: Ed25519PrivateKey, body: NodeCertificate) -> bytes:
    """The raw certificate. The caller has `body`'s consent from the node; `open_certificate` checks it."""
    return sign(member_key, CERTIFICATE_TAG, body)


@lru_cache(maxsize=_REMEMBERED_CERTIFICATES)
def open_certificate(raw: bytes) -> NodeCertificate:
    """The certificate in `raw`, with the member's signature and the node's consent checked.

    The caller still has to ask whether the one who shows it is `node_id`.

    Raises:
        RemoteProtocolError: any check failed.
    """
    signed = open_signed(NodeCertificate, raw, CERTIFICATE_TAG, CERTIFICATE_BYTES_MAX)
    certificate = signed.body
    if signed.public_key != member_public_key(certificate.member_id):
        raise RemoteProtocolError(f"A certificate for a node of {certificate.member_id} is signed by somebody else")
    consent = _consent(certificate.member_id, certificate.node_id, certificate.seal_key)
    if not signature_is_valid(node_public_key(certificate.node_id), consent, certificate.node_consent):
        raise RemoteProtocolError(f"Node {certificate.node_id} never agreed to belong to {certificate.member_id}")
    if not seal_key_is_usable(certificate.seal_key):
        raise RemoteProtocolError(f"Nothing can be sealed to the key that node {certificate.node_id} names")
    return certificate


class NodeRevocation(Wire):
    """That `node_id` is no node of `member_id` any more, wherever it was. There is no way back for this node id."""

    member_id: MemberIdText
    node_id: NodeIdText
    issued_at: Seconds


def make_revocation(member_key: Ed25519PrivateKey, node_id: NodeId, *, issued_at: int) -> bytes:
    """The raw revocation of one of the member's nodes. `issued_at`: seconds, for people."""
    body = NodeRevocation(
        member_id=member_id_of(public_key_of(member_key)),
        node_id=node_id,
        issued_at=issued_at,
    )
    return sign(member_key, REVOCATION_TAG, body)


@lru_cache(maxsize=_REMEMBERED_REVOCATIONS)
def open_revocation(raw: bytes) -> NodeRevocation:
    """The revocation in `raw`, with the member's signature checked. Raises RemoteProtocolError when it is wrong."""
    signed = open_signed(NodeRevocation, raw, REVOCATION_TAG, REVOCATION_BYTES_MAX)
    if signed.public_key != member_public_key(signed.body.member_id):
        raise RemoteProtocolError(f"A revocation of a node of {signed.body.member_id} is signed by somebody else")
    return signed.body


def _consent(member_id: str, node_id: str, seal_key: bytes) -> bytes:
    # Ids hold no line break, and the key has a fixed length: no two statements give the same bytes.
    return _CONSENT_PREFIX + f"{member_id}\n{node_id}\n".encode() + seal_key
