"""How two nodes find a way for bulk bytes beside the one that they speak on: what is offered, and the tokens that prove
who comes (docs/protocol.md §13). Time in seconds and randomness are handed in.
"""

import hmac
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from pydantic import Field

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import BULK_TOKEN_BYTES, BULK_TOKEN_S, PEER_BULK_TOKENS_MAX
from protocol.version import PROTOCOL_VERSION
from protocol.wire import Wire, pack, unpack

# On which a node asks for a way, within the connection that has proved both names.
BULK_WAY_PROTOCOL = f"/fednode/bulk-way/{PROTOCOL_VERSION}"
OFFER_BYTES_MAX = 256  # one has about 100; an empty frame offers nothing
TAKEN = b"\1"  # what who came with a good token is told
FINGERPRINT_BYTES = 32
# The first byte of a TLS connection (RFC 8446 §5.1: a record of the handshake). What speaks libp2p begins otherwise.
TLS_BEGINS = b"\x16"


class BulkOffer(Wire):
    """One way, for one who asked. `certificate`: SHA-256 of what the server will show, as DER (RFC 5280)."""

    certificate: Annotated[bytes, Field(min_length=FINGERPRINT_BYTES, max_length=FINGERPRINT_BYTES)]
    token: Annotated[bytes, Field(min_length=BULK_TOKEN_BYTES, max_length=BULK_TOKEN_BYTES)]


def offer_frame(offer: BulkOffer | None) -> bytes:
    return b"" if offer is None else pack(offer)


def read_offer(frame: bytes) -> BulkOffer | None:
    """What `offer_frame` made. Raises RemoteProtocolError."""
    return unpack(BulkOffer, frame, OFFER_BYTES_MAX) if frame else None


def check_certificate(offer: BulkOffer, certificate: bytes | None) -> None:
    """Raises RemoteProtocolError where who answers is not who offered it: nobody else has that key."""
    if certificate is None or not hmac.compare_digest(sha256(certificate).digest(), offer.certificate):
        raise RemoteProtocolError("The certificate that is shown for blobs is not the one that was offered")


def proof_of(token: bytes, asker: NodeId, giver: NodeId) -> bytes:
    """What `asker` says, who connects with the `token` that `giver` gave it; BULK_TOKEN_BYTES. An offer that somebody
    was given and passes on as its own leads nowhere: who takes it would speak to another than it believes."""
    return sha256(b"fednode/bulk-way/1\n" + token + f"{asker}\n{giver}".encode()).digest()


@dataclass(frozen=True, slots=True)
class _Issued:
    peer: NodeId
    source: str
    until: float


class BulkTokens:
    """The tokens that one node has given out and that nobody has come with yet."""

    def __init__(self) -> None:
        self._issued: dict[bytes, _Issued] = {}  # in the order of their ends
        self._of_peer: Counter[NodeId] = Counter()
        self._of_source: Counter[str] = Counter()

    def issue(self, peer: NodeId, source: str, token: bytes, now: float) -> bool:
        """`peer`, which dials from `source`, may come with `token`, which may be a proof of one. Not when it has many
        that it did not come with."""
        self._drop_expired(now)
        if self._of_peer[peer] >= PEER_BULK_TOKENS_MAX:
            return False
        self._issued[token] = _Issued(peer, source, now + BULK_TOKEN_S)
        self._of_peer[peer] += 1
        self._of_source[source] += 1
        return True

    def redeem(self, token: bytes, now: float) -> NodeId | None:
        """Who comes with `token`; nobody, when it was not given out, has been used, or is too old."""
        self._drop_expired(now)
        return issued.peer if (issued := self._take(token)) is not None else None

    def outstanding(self, peer: NodeId, now: float) -> int:
        self._drop_expired(now)
        return self._of_peer[peer]

    def expects(self, source: str, now: float) -> bool:
        """Whether somebody who dials from `source` has a token to come with."""
        self._drop_expired(now)
        return self._of_source[source] > 0

    def forget(self, peer: NodeId) -> None:
        """What `peer` was given is good for nothing any more."""
        for token in [token for token, issued in self._issued.items() if issued.peer == peer]:
            self._take(token)

    def _drop_expired(self, now: float) -> None:
        while self._issued and (oldest := next(iter(self._issued.items())))[1].until <= now:
            self._take(oldest[0])

    def _take(self, token: bytes) -> _Issued | None:
        issued = self._issued.pop(token, None)
        if issued is not None:
            self._of_peer -= Counter([issued.peer])
            self._of_source -= Counter([issued.source])
        return issued
