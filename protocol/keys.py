"""Ed25519 identities and the names made from them; which X25519 keys something can be sealed to.

A node's name is its libp2p peer id, a member's is the letter M and its public key; both hold the whole public key, so
whoever knows the name can check a signature (RFC 8032; libp2p's peer-ids specification, identity multihash).
"""

from functools import lru_cache
from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from protocol.errors import RemoteProtocolError

NodeId = NewType("NodeId", str)
MemberId = NewType("MemberId", str)
GroupId = NewType("GroupId", str)  # BLAKE3, in hex, of the group's first operation
RunId = NewType("RunId", str)  # BLAKE3, in hex, of the operation that proposed the run
BlobId = NewType("BlobId", str)  # BLAKE3, in hex, of the blob's chunk list
Hash = NewType("Hash", str)  # BLAKE3, in hex

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

# base58 of the same few keys, again with every message; some 200 bytes each.
_REMEMBERED_NAMES = 8192

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# An identity multihash (0x00, 36 bytes) of libp2p's protobuf for a public key of type Ed25519.
_PEER_ID_PREFIX = bytes.fromhex("002408011220")


def base58(data: bytes) -> str:
    """Bitcoin's base58 of `data`, as libp2p writes peer ids."""
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * leading_zeros + digits


def unbase58(text: str) -> bytes:
    """The bytes that `base58` made `text` from. Raises ValueError for a character outside the alphabet."""
    number = 0
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise ValueError(f"{character!r} is no base58 digit")
        number = number * 58 + digit
    leading_zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * leading_zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


@lru_cache(maxsize=_REMEMBERED_NAMES)
def node_id_of(public_key: bytes) -> NodeId:
    return NodeId(base58(_PEER_ID_PREFIX + public_key))


def member_id_of(public_key: bytes) -> MemberId:
    return MemberId("M" + base58(public_key))


def node_public_key(node_id: str) -> bytes:
    """The 32 bytes of the Ed25519 key in a node id. Raises RemoteProtocolError when it is no such id."""
    return _public_key(node_id, node_id, _PEER_ID_PREFIX, "a node id")


def member_public_key(member_id: str) -> bytes:
    """The 32 bytes of the Ed25519 key in a member id. Raises RemoteProtocolError when it is no such id."""
    encoded = member_id[1:] if member_id.startswith("M") else "?"
    return _public_key(member_id, encoded, b"", "a member id")


def _public_key(name: str, encoded: str, prefix: bytes, kind: str) -> bytes:
    try:
        # A canonical id is short; the bound keeps a long string from costing quadratic time.
        data = unbase58(encoded) if len(encoded) <= 64 else b""
    except ValueError:
        data = b""
    if len(data) != len(prefix) + PUBLIC_KEY_BYTES or not data.startswith(prefix) or base58(data) != encoded:
        raise RemoteProtocolError(f"{name[:80]!r} is not {kind}")
    return data[len(prefix) :]


def public_key_of(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def signature_is_valid(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal_key_is_usable(seal_key: bytes) -> bool:
    """Whether a key can be agreed with `seal_key`: a few points of the curve give everybody the same secret, zero."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(seal_key))
    except ValueError:
        return False
    return True
