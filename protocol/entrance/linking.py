"""The new node's end of linking: from a device token to a certificate. And a sibling's knock where it may be unknown.

Sans-I/O, as `joining`. The new node believes the member's signatures alone: the token says whose node it becomes, and
certificate and revocations must be that member's. Rules: docs/protocol.md §10.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.entrance.device_link import DeviceToken
from protocol.entrance.introducing import Welcomed
from protocol.entrance.link_host import revoked
from protocol.entrance.link_proof import LinkStatement, prove_link
from protocol.entrance.messages import (
    Challenge,
    Linked,
    LinkHello,
    LinkProof,
    Refusal,
    Revoked,
    SiblingHello,
    Welcome,
    open_entrance_message,
)
from protocol.entrance.outputs import SendFrame, TurnedAway, send
from protocol.entrance.siblings import GroupTold, Siblings
from protocol.errors import RemoteProtocolError
from protocol.identity import consent_to, open_certificate, open_revocation
from protocol.keys import MemberId, NodeId, node_id_of, public_key_of


@dataclass(frozen=True, slots=True)
class LinkMade:
    """We are a node of the token's member. Make `certificate` and `siblings` durable; `known`: address
    records, first that of the host, at which the `groups` are to be had."""

    certificate: bytes
    siblings: Siblings
    groups: tuple[GroupTold, ...]
    known: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ShutOut:
    """We are no node of our member any more: `revocation` is its signed word, and has been checked."""

    revocation: bytes


LinkOutput = SendFrame | LinkMade | TurnedAway
SiblingOutput = SendFrame | Welcomed | ShutOut | TurnedAway


class Linking:
    """One attempt at the token's host. Send what `open` gives, then hand every received frame to `receive`.

    `peer` is the node at the other end as the stream has authenticated it. `seal_key`: our public one.
    """

    def __init__(
        self, token: DeviceToken, key: Ed25519PrivateKey, *, node_name: str, seal_key: bytes, peer: NodeId
    ) -> None:
        self._token = token
        self._key = key
        self._me = node_id_of(public_key_of(key))
        self._node_name = node_name
        self._seal_key = seal_key
        self._peer = peer
        self._challenged = False
        self.ended = False

    def open(self) -> list[LinkOutput]:
        return [send(LinkHello(link_id=self._token.link_id))]

    def receive(self, frame: bytes) -> list[LinkOutput]:
        """What to do about `frame`. After LinkMade or TurnedAway nothing more comes: close the stream.

        Raises:
            RemoteProtocolError: the other end does not keep to the protocol, or says what the member has not signed.
        """
        message = open_entrance_message(frame)
        if self.ended:
            raise RemoteProtocolError("An entrance went on talking after the end")
        match message:
            case Refusal():
                return self._end(TurnedAway(message.as_error()))
            case Revoked():
                checked = _own_revocation(message.revocation, self._token.member_id, self._me)
                return self._end(TurnedAway(revoked(checked, self._me)))
            case Challenge() if not self._challenged:
                self._challenged = True
                return [self._prove(message.nonce)]
            case Linked() if self._challenged:
                return self._end(self._enter(message))
        raise RemoteProtocolError(f"An entrance said {message.type} where it does not belong")

    def _prove(self, nonce: bytes) -> SendFrame:
        statement = LinkStatement(
            member_id=self._token.member_id,
            node_id=self._me,
            node_name=self._node_name,
            seal_key=self._seal_key,
            host=self._peer,
            nonce=nonce,
        )
        proof = LinkProof(
            node_name=self._node_name,
            seal_key=self._seal_key,
            consent=consent_to(self._token.member_id, self._key, self._seal_key),
            signature=prove_link(self._token.seed, statement),
        )
        return send(proof)

    def _enter(self, message: Linked) -> LinkMade:
        certificate = open_certificate(message.certificate)
        wanted = (self._token.member_id, self._me, self._node_name, self._seal_key)
        if (certificate.member_id, certificate.node_id, certificate.node_name, certificate.seal_key) != wanted:
            raise RemoteProtocolError("A host gave us a certificate that is not ours, or not what we asked for")
        siblings = Siblings(self._token.member_id)
        siblings.add_all((*message.certificates, message.certificate), message.revocations)
        if not siblings.admits(self._me) or not siblings.admits(self._peer):
            raise RemoteProtocolError("A host linked us, and by its own word it or we are no node of the member")
        return LinkMade(message.certificate, siblings, message.groups, message.known)

    def _end(self, output: LinkMade | TurnedAway) -> list[LinkOutput]:
        self.ended = True
        return [output]


class SiblingKnock:
    """We show one of our member's other nodes that we are one, too."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate
        self._us = open_certificate(certificate)
        self.ended = False

    def open(self) -> list[SiblingOutput]:
        return [send(SiblingHello(certificate=self._certificate))]

    def receive(self, frame: bytes) -> list[SiblingOutput]:
        """What to do about `frame`. After Welcomed, ShutOut or TurnedAway nothing more comes: close the stream.

        Raises:
            RemoteProtocolError: the other end does not keep to the protocol.
        """
        message = open_entrance_message(frame)
        if self.ended:
            raise RemoteProtocolError("An entrance went on talking after the end")
        self.ended = True
        match message:
            case Welcome():
                return [Welcomed()]
            case Refusal():
                return [TurnedAway(message.as_error())]
            case Revoked():
                _own_revocation(message.revocation, self._us.member_id, self._us.node_id)
                return [ShutOut(message.revocation)]
        raise RemoteProtocolError(f"An entrance said {message.type} where it does not belong")


def _own_revocation(raw: bytes, member_id: MemberId, me: NodeId) -> Siblings:
    """A set that holds `raw`, which revokes us. Raises RemoteProtocolError when it does not."""
    if open_revocation(raw).node_id != me:
        raise RemoteProtocolError("A host turned us away by another node's revocation")
    checked = Siblings(member_id)
    checked.add_revocation(raw)
    return checked
