"""The one envelope for everything signed: a domain tag, a format version, the raw body, the signer, the signature.

The body's bytes are kept and verified as received, never re-encoded. The tag is part of what is signed, so a signature
made for one purpose is worth nothing for another.
"""

from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from protocol.errors import RemoteProtocolError
from protocol.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Hash, NodeId, node_id_of, public_key_of, signature_is_valid
from protocol.wire import Wire, hash_of, pack, unpack

FORMAT_VERSION = 1
ENVELOPE_OVERHEAD_BYTES = 256  # keys, signature, tag and msgpack's own bytes around a body
# Simulations hand one and the same signed bytes to many nodes, and gossip hands them twice to one: checking again
# would tell nothing new. Remembered is a hash of what was checked, for anybody can send half a megabyte under a wrong
# signature. At about 150 bytes an entry this is some 10 MB at the most.
_REMEMBERED_SIGNATURES = 65_536
_known_signatures: dict[bytes, bool] = {}  # the oldest first

B = TypeVar("B", bound=Wire)


class Envelope(Wire):
    """What is on the wire. `t` tag, `v` version, `b` body, `k` signer's public key, `s` signature."""

    t: Annotated[str, Field(max_length=40)]
    v: Annotated[int, Field(ge=1, le=255)]
    b: bytes
    k: Annotated[bytes, Field(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
    s: Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


@dataclass(frozen=True, slots=True)
class Signed(Generic[B]):
    """A body whose signature held. `raw` is the envelope as received, `hash` names it, `body_hash` what was signed."""

    raw: bytes
    hash: Hash
    body: B
    body_hash: Hash
    public_key: bytes

    @property
    def node_id(self) -> NodeId:
        """The signer as a node. Use it only where the signer is meant to be one."""
        return node_id_of(self.public_key)


def sign(key: Ed25519PrivateKey, tag: str, body: Wire) -> bytes:
    """The envelope, as bytes, of `body` signed by `key` for the purpose `tag`."""
    raw_body = pack(body)
    signature = key.sign(_signed_bytes(tag, FORMAT_VERSION, raw_body))
    return pack(Envelope(t=tag, v=FORMAT_VERSION, b=raw_body, k=public_key_of(key), s=signature))


def open_signed(kind: type[B], raw: bytes, tag: str, body_bytes_max: int) -> Signed[B]:
    """Check size, form (canonical), tag, version and signature of `raw`, in that order, and give its body.

    The caller still has to ask whether this signer may say this.

    Raises:
        RemoteProtocolError: any of the checks failed.
    """
    envelope = unpack(Envelope, raw, body_bytes_max + ENVELOPE_OVERHEAD_BYTES)
    if pack(envelope) != raw:
        # Else anybody could re-encode a signed thing, with its signature intact, under a second hash.
        raise RemoteProtocolError(f"A {tag} is not encoded the one canonical way")
    if envelope.t != tag:
        raise RemoteProtocolError(f"Something signed as {envelope.t!r} was sent where {tag!r} belongs")
    if envelope.v != FORMAT_VERSION:
        raise RemoteProtocolError(
            f"A {tag} has format version {envelope.v}, this node knows {FORMAT_VERSION}",
            remedy="upgrade fednode on the older of the two nodes",
        )
    if not _envelope_signature_is_valid(envelope.k, tag, envelope.v, envelope.b, envelope.s):
        raise RemoteProtocolError(f"The signature under a {tag} is wrong")
    return Signed(raw, hash_of(raw), unpack(kind, envelope.b, body_bytes_max), hash_of(envelope.b), envelope.k)


def _envelope_signature_is_valid(public_key: bytes, tag: str, version: int, body: bytes, signature: bytes) -> bool:
    signed = _signed_bytes(tag, version, body)
    name = blake3(public_key + signature + signed).digest()  # the first two have one length always
    known = _known_signatures.get(name)
    if known is None:
        known = signature_is_valid(public_key, signed, signature)
        if len(_known_signatures) >= _REMEMBERED_SIGNATURES:
            del _known_signatures[next(iter(_known_signatures))]
        _known_signatures[name] = known
    return known


def _signed_bytes(tag: str, version: int, raw_body: bytes) -> bytes:
    return f"fednode/{tag}/{version}\n".encode() + raw_body
