"""The host's end of linking: a machine that holds a device token's seed becomes one more node of the host's member.

And the host's end of a sibling's knock, which shows a certificate that the host may not have heard of. Sans-I/O, as
`admitting`, of which it is a part. Rules: docs/protocol.md §10.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.entrance.link_proof import LinkStatement, link_proof_is_valid
from protocol.entrance.messages import Challenge, Linked, LinkHello, LinkProof, Revoked, SiblingHello, Welcome
from protocol.entrance.outputs import Close, HostOutput, KeepSiblings, send
from protocol.entrance.siblings import GroupTold, OpenLink, Siblings
from protocol.errors import Refused, RemoteProtocolError
from protocol.identity import NodeCertificate, open_certificate, sign_certificate
from protocol.keys import Hash, NodeId
from protocol.times import date_text


@dataclass(frozen=True, slots=True)
class LinkDesk:
    """What the host has for its member's further nodes. `known`: address records, its own first.

    Without `member_key` it links nobody."""

    siblings: Siblings
    member_key: Ed25519PrivateKey | None = field(repr=False)
    member_name: str
    groups: tuple[GroupTold, ...]
    known: tuple[bytes, ...]


class LinkHost:
    """One stranger's conversation; it is over once the outputs hold Close, or `Refused` was raised. `nonce`: 32 random
    bytes, used for this conversation alone."""

    def __init__(self, desk: LinkDesk, *, me: NodeId, peer: NodeId, nonce: bytes) -> None:
        self._desk = desk
        self._me = me
        self._peer = peer
        self._nonce = nonce
        self._asked: Hash | None = None

    def receive(self, message: LinkHello | LinkProof | SiblingHello, now: int) -> list[HostOutput]:
        """What to do about `message`. `now`: this node's clock, seconds, which a certificate signs.

        Raises:
            Refused: for the stranger to read.
            RemoteProtocolError: it does not keep to the protocol: reset the stream.
        """
        match message:
            case LinkHello() if self._asked is None:
                return self._on_hello(message.link_id, now)
            case LinkProof() if self._asked is not None:
                return self._on_proof(self._asked, message, now)
            case SiblingHello() if self._asked is None:
                return self._on_sibling(message.certificate)
        raise RemoteProtocolError(f"A stranger said {message.type} where it does not belong")

    def _on_hello(self, link_id: Hash, now: int) -> list[HostOutput]:
        if self._desk.siblings.revocation(self._peer) is not None:
            return self._shut_out()
        self._check(link_id, now)
        self._asked = link_id
        return [send(Challenge(nonce=self._nonce))]

    def _check(self, link_id: Hash, now: int) -> OpenLink:
        """Raises Refused when the peer cannot become a node of the member by this token."""
        link = self._desk.siblings.check_link(link_id, self._peer, now)
        self._desk.siblings.check_has_room(self._peer)
        if self._desk.member_key is None:
            raise Refused(
                "no-member-key",
                "The node that made this device token no longer holds its member's key",
                remedy="make a new one on the node that does; fednode nodes says which",
            )
        return link

    def _on_proof(self, link_id: Hash, proof: LinkProof, now: int) -> list[HostOutput]:
        siblings, key = self._desk.siblings, self._desk.member_key
        if siblings.revocation(self._peer) is not None:
            return self._shut_out()
        link = self._check(link_id, now)
        statement = LinkStatement(
            member_id=siblings.member_id,
            node_id=self._peer,
            node_name=proof.node_name,
            seal_key=proof.seal_key,
            host=self._me,
            nonce=self._nonce,
        )
        if not link_proof_is_valid(link_id, statement, proof.signature):
            raise Refused(
                "bad-proof",
                "The machine did not prove that it holds the device token's secret",
                remedy="use the token as it was printed: fednode link makes a new one",
            )
        certificate = siblings.certificates.get(self._peer)
        if certificate is None or not _says(open_certificate(certificate), proof):
            assert key is not None  # _check has looked
            certificate = self._certify(key, proof, now)
        siblings.use_link(link, self._peer)
        siblings.add_certificate(certificate)
        return [KeepSiblings(), *self._linked(certificate)]

    def _certify(self, key: Ed25519PrivateKey, proof: LinkProof, now: int) -> bytes:
        """The certificate, newer than any before. Raises Refused where the node's consent is not good."""
        before = self._desk.siblings.certificates.get(self._peer)
        issued_at = now if before is None else max(now, open_certificate(before).issued_at + 1)
        body = NodeCertificate(
            member_id=self._desk.siblings.member_id,
            node_id=self._peer,
            member_name=self._desk.member_name,
            node_name=proof.node_name,
            seal_key=proof.seal_key,
            issued_at=issued_at,
            node_consent=proof.consent,
        )
        raw = sign_certificate(key, body)
        try:
            open_certificate(raw)
        except RemoteProtocolError as error:
            raise Refused("bad-certificate", error.what, remedy="link the machine with fednode on it") from None
        return raw

    def _linked(self, certificate: bytes) -> list[HostOutput]:
        siblings = self._desk.siblings
        message = Linked(
            certificate=certificate,
            certificates=tuple(siblings.certificates.values()),
            revocations=tuple(siblings.revocations.values()),
            groups=self._desk.groups,
            known=self._desk.known,
        )
        return [send(message), Close()]

    def _on_sibling(self, raw: bytes) -> list[HostOutput]:
        siblings = self._desk.siblings
        try:
            certificate = open_certificate(raw)
        except RemoteProtocolError as error:
            raise Refused("bad-certificate", error.what, remedy="upgrade fednode on the older machine") from None
        if certificate.node_id != self._peer or certificate.member_id != siblings.member_id:
            raise Refused(
                "not-a-sibling",
                f"The certificate makes {self._peer} no node of this node's member",
                remedy="join a group of its with an invitation",
            )
        if siblings.revocation(self._peer) is not None:
            return self._shut_out()
        siblings.check_has_room(self._peer)
        kept: list[HostOutput] = [KeepSiblings()] if siblings.add_certificate(raw) else []
        return [*kept, send(Welcome()), Close()]

    def _shut_out(self) -> list[HostOutput]:
        raw = self._desk.siblings.revocations[self._peer]
        return [send(Revoked(revocation=raw)), Close(revoked(self._desk.siblings, self._peer))]


def revoked(siblings: Siblings, node: NodeId) -> Refused:
    """For a node that is its member's no longer: since when."""
    revocation = siblings.revocation(node)
    assert revocation is not None
    return Refused(
        "revoked",
        f"This node was revoked by its member on {date_text(revocation.issued_at)}",
        remedy="nothing brings it back: if the machine is the member's again, link it with a new home",
    )


def _says(certificate: NodeCertificate, proof: LinkProof) -> bool:
    return (certificate.node_name, certificate.seal_key) == (proof.node_name, proof.seal_key)
