"""The joiner's proof that it holds an invitation's seed, good for one group, joiner and admitter.

The seed is an Ed25519 private key; its public half stands in the group's log. A proof is a bare signature over a
statement that both ends build for themselves. Rules: docs/protocol.md §4.
"""

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.fields import Bytes32, GroupIdText, HashText, MemberIdText, NodeIdText
from protocol.keys import public_key_of, signature_is_valid
from protocol.wire import Wire, pack

_PROOF_PREFIX = b"fednode/admission-proof/1\n"
_REMEMBERED_PROOFS = 8192  # one an admission, for the state is folded again and again; some 600 bytes each


class AdmissionStatement(Wire):
    """Who asks whom for admission to what. `nonce` is the admitter's, so that a proof is good for one conversation."""

    group: GroupIdText
    invite_id: HashText
    member_id: MemberIdText
    node_id: NodeIdText
    admitter: NodeIdText
    nonce: Bytes32


def seed_public_key(seed: bytes) -> bytes:
    """What `invite.post` says of the 32 secret bytes `seed`."""
    return public_key_of(Ed25519PrivateKey.from_private_bytes(seed))


def prove(seed: bytes, statement: AdmissionStatement) -> bytes:
    """The proof, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(_PROOF_PREFIX + pack(statement))


@lru_cache(maxsize=_REMEMBERED_PROOFS)
def proof_is_valid(public_key: bytes, statement: AdmissionStatement, proof: bytes) -> bool:
    return signature_is_valid(public_key, _PROOF_PREFIX + pack(statement), proof)
