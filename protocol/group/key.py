"""The group's symmetric key: one per epoch, sealed to each node, and gossip's payloads encrypted under it.

Sealing: an ephemeral X25519 key agrees with the recipient's (RFC 7748), HKDF-SHA256 (RFC 5869) derives a key for this
one message, ChaCha20-Poly1305 (RFC 8439) encrypts. Randomness is an argument everywhere. Rules: docs/protocol.md §5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field

from protocol.errors import LocalProtocolError, Refused, RemoteProtocolError
from protocol.keys import PUBLIC_KEY_BYTES, GroupId, Hash, NodeId, node_id_of, node_public_key
from protocol.limits import EPOCH_MAX, GOSSIP_BYTES_MAX
from protocol.wire import Wire, hash_of, pack, pack_plain, unpack

GROUP_KEY_BYTES = 32
GOSSIP_NONCE_BYTES = 12
SEALED_KEY_BYTES = 32 + GROUP_KEY_BYTES + 16  # the ephemeral public key, the encrypted key, the tag
_ENTRY_BYTES = PUBLIC_KEY_BYTES + SEALED_KEY_BYTES  # of a key.rotate, for each recipient
_ENVELOPE_BYTES = 64  # of a gossip payload's encryption: tag, nonce, epoch and msgpack's own
# The nodes of a simulation hear the very same bytes, hundreds of announcements at a time.
_SHORT_GOSSIP_BYTES = 4096
_REMEMBERED_GOSSIP = 512
_REMEMBERED_LONG_GOSSIP = 2
GOSSIP_PLAIN_BYTES_MAX = GOSSIP_BYTES_MAX - _ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class GroupKey:
    """`secret`: 32 random bytes that the nodes of the group share during `epoch`."""

    epoch: int
    secret: bytes = field(repr=False)


class _SealedGossip(Wire):
    """`e` epoch, `n` nonce, `c` ciphertext."""

    e: Annotated[int, Field(ge=0, le=EPOCH_MAX)]
    n: Annotated[bytes, Field(min_length=GOSSIP_NONCE_BYTES, max_length=GOSSIP_NONCE_BYTES)]
    c: bytes


def seal_key_of(seal_secret: bytes) -> bytes:
    """The public half of a node's 32-byte X25519 secret, for its certificate."""
    return X25519PrivateKey.from_private_bytes(seal_secret).public_key().public_bytes_raw()


def seal_to(seal_key: bytes, key: GroupKey, group: GroupId, *, ephemeral_secret: bytes) -> bytes:
    """The group's key, for the one node that has the secret of `seal_key`. `ephemeral_secret`: 32 random bytes, once.

    Raises RemoteProtocolError when `seal_key` is no usable public key.
    """
    ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_secret)
    public = ephemeral.public_key().public_bytes_raw()
    cipher = _sealing_cipher(ephemeral, seal_key, public + seal_key, group, key.epoch)
    return public + cipher.encrypt(_ZERO_NONCE, key.secret, None)


def open_sealed(seal_secret: bytes, sealed: bytes, group: GroupId, epoch: int) -> GroupKey:
    """The group's key that was sealed to us. Raises RemoteProtocolError when it was not, or not for this epoch."""
    if len(sealed) != SEALED_KEY_BYTES:
        raise RemoteProtocolError(f"A sealed group key of {len(sealed)} bytes came where {SEALED_KEY_BYTES} belong")
    public, ciphertext = sealed[:32], sealed[32:]
    private = X25519PrivateKey.from_private_bytes(seal_secret)
    cipher = _sealing_cipher(private, public, public + seal_key_of(seal_secret), group, epoch)
    try:
        return GroupKey(epoch, cipher.decrypt(_ZERO_NONCE, ciphertext, None))
    except InvalidTag:
        raise RemoteProtocolError("A group key was sealed to somebody else, or altered") from None


# Every sealing derives a key of its own from its ephemeral secret, so one nonce serves them all (as in RFC 9180).
_ZERO_NONCE = bytes(GOSSIP_NONCE_BYTES)


def _sealing_cipher(
    ours: X25519PrivateKey, theirs: bytes, both_public: bytes, group: GroupId, epoch: int
) -> ChaCha20Poly1305:
    try:
        shared = ours.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError:
        raise RemoteProtocolError("A key to seal with is not 32 bytes, or gives no secret") from None
    info = b"fednode/group-key/1\n" + f"{group}\n{epoch}".encode()
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=both_public, info=info).derive(shared))


def seal_to_all(
    seal_keys: Mapping[NodeId, bytes], key: GroupKey, group: GroupId, *, ephemeral_secrets: Iterable[bytes]
) -> bytes:
    """The key for each of `seal_keys`, as a `key.rotate` carries it. `ephemeral_secrets`: 32 random bytes for each."""
    pairs = zip(seal_keys.items(), ephemeral_secrets, strict=True)
    return b"".join(
        node_public_key(node) + seal_to(seal_key, key, group, ephemeral_secret=secret)
        for (node, seal_key), secret in pairs
    )


def recipients_of(sealed: bytes) -> list[NodeId]:
    """The nodes that `sealed`, of a `key.rotate`, has the key for. Raises Refused when it is cut."""
    if len(sealed) % _ENTRY_BYTES:
        raise Refused("bad-keys", "The new key's list of recipients is cut", remedy="make another key")
    return [node_id_of(sealed[at : at + PUBLIC_KEY_BYTES]) for at in range(0, len(sealed), _ENTRY_BYTES)]


def sealed_for(sealed: bytes, node_id: NodeId) -> bytes | None:
    """The part of `sealed`, of a `key.rotate`, that `node_id` opens; None when there is none."""
    ours = node_public_key(node_id)
    for at in range(0, len(sealed), _ENTRY_BYTES):
        if sealed[at : at + PUBLIC_KEY_BYTES] == ours:
            return sealed[at + PUBLIC_KEY_BYTES : at + _ENTRY_BYTES]
    return None


def commitment_of(key: GroupKey) -> Hash:
    """What a `key.rotate` says of its key, by which it is known again."""
    return hash_of(b"fednode/group-key/1\n" + key.secret)


def seal_gossip(key: GroupKey, group: GroupId, topic: str, plain: bytes, *, nonce: bytes) -> bytes:
    """`plain` for the group's nodes alone. `nonce`: 12 random bytes, never used twice under one key.

    Raises LocalProtocolError when it is too long to be gossiped."""
    if len(plain) > GOSSIP_PLAIN_BYTES_MAX:
        raise LocalProtocolError(
            f"A gossip message of {len(plain)} bytes is over the limit of {GOSSIP_PLAIN_BYTES_MAX}",
            remedy="send it over streams instead",
        )
    ciphertext = ChaCha20Poly1305(key.secret).encrypt(nonce, plain, _gossip_context(group, topic, key.epoch))
    return pack(_SealedGossip(e=key.epoch, n=nonce, c=ciphertext))


def open_gossip(keys: Mapping[int, GroupKey], group: GroupId, topic: str, data: bytes) -> bytes:
    """What was gossiped in `group` on `topic`. `keys`: by epoch.

    Raises RemoteProtocolError when it is malformed, altered, of another group or topic, or of an epoch not in `keys`.
    """
    is_short = len(data) <= _SHORT_GOSSIP_BYTES
    sealed = _open_short(data) if is_short else unpack(_SealedGossip, data, GOSSIP_BYTES_MAX)
    key = keys.get(sealed.e)
    if key is None:
        raise RemoteProtocolError(f"A gossip message is under the group's key of epoch {sealed.e}, which is not here")
    return (_decrypt_short if is_short else _decrypt_long)(key, group, topic, sealed.n, sealed.c)


@lru_cache(maxsize=_REMEMBERED_GOSSIP)
def _open_short(data: bytes) -> _SealedGossip:
    return unpack(_SealedGossip, data, GOSSIP_BYTES_MAX)


def _decrypt(key: GroupKey, group: GroupId, topic: str, nonce: bytes, ciphertext: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key.secret).decrypt(nonce, ciphertext, _gossip_context(group, topic, key.epoch))
    except InvalidTag:
        raise RemoteProtocolError("A gossip message is of another group or topic, or altered") from None


_decrypt_short = lru_cache(maxsize=_REMEMBERED_GOSSIP)(_decrypt)
_decrypt_long = lru_cache(maxsize=_REMEMBERED_LONG_GOSSIP)(_decrypt)


def _gossip_context(group: GroupId, topic: str, epoch: int) -> bytes:
    return pack_plain({"group": group, "topic": topic, "epoch": epoch})
