"""The new node's proof that it holds a device token's seed, good for one node, one host and one conversation.

As `admission` has it for invitations: a bare signature over a statement that both ends build for themselves, so that
what is overheard is worth nothing. Rules: docs/protocol.md §10.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.fields import Bytes32, MemberIdText, Name, NodeIdText
from protocol.keys import Hash, signature_is_valid
from protocol.wire import Wire, pack

_PROOF_PREFIX = b"fednode/link-proof/1\n"


class LinkStatement(Wire):
    """Which node asks whom to be whose, under which name and with which key. `nonce` is the host's."""

    member_id: MemberIdText
    node_id: NodeIdText
    node_name: Name
    seal_key: Bytes32
    host: NodeIdText
    nonce: Bytes32


def prove_link(seed: bytes, statement: LinkStatement) -> bytes:
    """The proof, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(_PROOF_PREFIX + pack(statement))


def link_proof_is_valid(link_id: Hash, statement: LinkStatement, proof: bytes) -> bool:
    return signature_is_valid(bytes.fromhex(link_id), _PROOF_PREFIX + pack(statement), proof)
