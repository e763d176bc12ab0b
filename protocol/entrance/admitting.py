"""The host's end of the entrance: admits joiners, and learns of members whose admission it has not heard of.

Sans-I/O: frames in, outputs as data. It trusts nothing but the authenticated name of the peer, signatures, and the
group's rules; the nonce, the ephemeral secret and the clock's reading are arguments. Rules: docs/protocol.md §4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.entrance.introduction_host import IntroductionHost, not_a_member
from protocol.entrance.link_host import LinkDesk, LinkHost
from protocol.entrance.messages import (
    Admitted,
    Challenge,
    Hello,
    Introduce,
    LinkHello,
    LinkProof,
    LogPart,
    Proof,
    SiblingHello,
    open_entrance_message,
    refusal_of,
)
from protocol.entrance.outputs import Close, HostOutput, KeepOperations, send
from protocol.errors import Refused, RemoteProtocolError
from protocol.group import rules
from protocol.group.admission import AdmissionStatement
from protocol.group.author import append
from protocol.group.key import GroupKey, seal_to
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberAdmit, NodeBind, Payload
from protocol.group.reducer import NodeTooOld, check_has_room_for, check_invitation_is_open
from protocol.group.state import GroupState
from protocol.group.sync import first_batch
from protocol.identity import NodeCertificate, open_certificate
from protocol.keys import GroupId, NodeId, node_id_of, public_key_of
from protocol.limits import KNOWN_ADDRESSES_MAX
from protocol.wire import Wire


@dataclass(frozen=True, slots=True)
class Hosted:
    """One group that this node is in. `known`: address records of its nodes."""

    log: GroupLog
    group_key: GroupKey
    known: tuple[bytes, ...] = ()


class EntranceHost:
    """One stranger's conversation. `peer` is its name as the stream has authenticated it.

    `nonce` (32 bytes) and `ephemeral_secret` (32 bytes) are random and used for this conversation alone. `desk`: for
    further nodes of our own member.
    """

    def __init__(
        self,
        groups: Mapping[GroupId, Hosted],
        key: Ed25519PrivateKey,
        *,
        peer: NodeId,
        nonce: bytes,
        ephemeral_secret: bytes,
        desk: LinkDesk | None = None,
    ) -> None:
        self._groups = groups
        self._key = key
        self._node_id = node_id_of(public_key_of(key))
        self._peer = peer
        self._nonce = nonce
        self._ephemeral_secret = ephemeral_secret
        self._challenged: tuple[Hello, NodeCertificate] | None = None
        self._introduction: IntroductionHost | None = None
        self._desk = desk
        self._link: LinkHost | None = None
        self.ended = False

    def receive(self, frame: bytes, *, now: int) -> list[HostOutput]:
        """What to do about `frame`. `now`: this node's clock, seconds, which an admission signs.

        Raises:
            RemoteProtocolError: the stranger does not keep to the protocol: reset the stream.
        """
        message = open_entrance_message(frame)
        if self.ended:
            raise RemoteProtocolError("A stranger went on talking after the end")
        try:
            match message:
                case LinkHello() | LinkProof() | SiblingHello() if not (self._challenged or self._introduction):
                    return self._on_own(message, now)
                case Hello() if not (self._challenged or self._introduction or self._link):
                    return self._on_hello(message, now)
                case Proof() if self._challenged is not None:
                    return self._on_proof(*self._challenged, message, now)
                case Introduce() if not (self._challenged or self._link):
                    return self._on_introduce(message)
        except Refused as refused:
            return self._refuse(refused)
        except NodeTooOld as error:
            return self._refuse(Refused("not-admitting", error.what, remedy="knock at another node of the group"))
        raise RemoteProtocolError(f"A stranger said {message.type} where it does not belong")

    def _on_hello(self, hello: Hello, now: int) -> list[HostOutput]:
        certificate = self._certificate(hello)
        hosted = self._hosted(hello.group)
        state = hosted.log.state()
        bound = state.nodes.get(certificate.node_id)
        if bound and bound.member_id == certificate.member_id and certificate.issued_at <= bound.issued_at:
            return self._admit(hosted, certificate, None, now)  # it has crashed, or never heard our answer
        if certificate.member_id in state.members:
            return self._admit(hosted, certificate, NodeBind(certificate=hello.certificate), now)
        self._check_admissible(state, hello, certificate, now)
        self._challenged = (hello, certificate)
        return [send(Challenge(nonce=self._nonce))]

    def _on_proof(self, hello: Hello, certificate: NodeCertificate, proof: Proof, now: int) -> list[HostOutput]:
        hosted = self._hosted(hello.group)
        statement = AdmissionStatement(
            group=hello.group,
            invite_id=hello.invite_id,
            member_id=certificate.member_id,
            node_id=certificate.node_id,
            admitter=self._node_id,
            nonce=self._nonce,
        )
        state = hosted.log.state()
        entry = rules.invitation_must_exist(state, hello.invite_id)
        rules.joiner_must_hold_the_seed(entry, statement, proof.signature)
        admission = MemberAdmit(
            invite_id=hello.invite_id,
            certificate=hello.certificate,
            nonce=self._nonce,
            proof=proof.signature,
            admitted_at=now,
        )
        bound_meanwhile = state.nodes.get(certificate.node_id)
        known = bound_meanwhile is not None and bound_meanwhile.member_id == certificate.member_id
        return self._admit(hosted, certificate, None if known else admission, now)

    def _certificate(self, hello: Hello) -> NodeCertificate:
        try:
            certificate = open_certificate(hello.certificate)
        except RemoteProtocolError as error:
            raise Refused("bad-certificate", error.what, remedy="upgrade fednode on the older machine") from None
        if certificate.node_id != self._peer:
            raise Refused(
                "bad-certificate",
                f"The certificate names node {certificate.node_id}, and {self._peer} showed it",
                remedy="join from the node that the certificate names",
            )
        return certificate

    def _hosted(self, group: GroupId) -> Hosted:
        hosted = self._groups.get(group)
        if hosted is None:
            raise _unknown()
        return hosted

    def _check_admissible(self, state: GroupState, hello: Hello, certificate: NodeCertificate, now: int) -> None:
        invitation = state.invitations.get(hello.invite_id)
        if invitation is None:
            raise _unknown()  # before anything that tells a stranger of the group
        rules.only_admins_and_members_admit(state, self._node_id)
        check_invitation_is_open(invitation, now)
        check_has_room_for(state, certificate)

    def _admit(
        self, hosted: Hosted, certificate: NodeCertificate, payload: Payload | None, now: int
    ) -> list[HostOutput]:
        """Write the admission, unless it is written, and hand over the log and the key."""
        outputs: list[HostOutput] = []
        log = hosted.log
        seal_key = certificate.seal_key if payload else log.state().nodes[certificate.node_id].seal_key
        # Nothing may fail once the log has grown: what is added must reach the disk.
        sealed = seal_to(seal_key, hosted.group_key, log.group, ephemeral_secret=self._ephemeral_secret)
        if payload:
            operation = append(log, self._key, payload, claimed_at=now)
            outputs.append(KeepOperations(log.group, (operation,)))
        *parts, last = _parts(log)
        outputs += [send(LogPart(operations=part)) for part in parts]
        admitted = Admitted(
            operations=last,
            epoch=hosted.group_key.epoch,
            sealed_key=sealed,
            known=hosted.known[:KNOWN_ADDRESSES_MAX],
        )
        return [*outputs, *self._end(admitted)]

    def _on_introduce(self, message: Introduce) -> list[HostOutput]:
        if self._introduction is None:
            hosted = self._groups.get(message.group)
            if hosted is None:
                raise not_a_member()
            self._introduction = IntroductionHost(hosted.log, self._peer)
        outputs, refused = self._introduction.receive(message)
        self.ended = any(isinstance(output, Close) for output in outputs)
        return [*outputs, *self._refuse(refused)] if refused else outputs

    def _on_own(self, message: LinkHello | LinkProof | SiblingHello, now: int) -> list[HostOutput]:
        """Docs/protocol.md §10: one more node of this node's member."""
        if self._desk is None:
            raise Refused("not-linking", "This node links no machines", remedy="knock at another")
        if self._link is None:
            self._link = LinkHost(self._desk, me=self._node_id, peer=self._peer, nonce=self._nonce)
        outputs = self._link.receive(message, now)
        self.ended = any(isinstance(output, Close) for output in outputs)
        return outputs

    def _refuse(self, refused: Refused) -> list[HostOutput]:
        return self._end(refusal_of(refused), refused)

    def _end(self, message: Wire, refused: Refused | None = None) -> list[HostOutput]:
        self.ended = True
        return [send(message), Close(refused)]


def _unknown() -> Refused:
    """One answer for a group that we are not in and for an invitation that it does not have: who has no good invitation
    does not learn who is in which group, nor what it is called."""
    return Refused(
        "unknown-invitation",
        "This node knows no such invitation",
        remedy="knock at another node of the group, or ask for a new invitation",
    )


def _parts(log: GroupLog) -> list[tuple[bytes, ...]]:
    """The whole log in canonical order, cut into messages."""
    operations = list(log)
    parts = []
    while operations:
        batch = first_batch(operations)
        parts.append(tuple(operation.raw for operation in batch))
        operations = operations[len(batch) :]
    return parts
