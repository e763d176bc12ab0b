"""The host's end of the entrance: admits joiners, and learns of members whose admission it has not heard of.

Sans-I/O: frames in, outputs as data. It trusts nothing but the authenticated name of the peer, signatures, and the
group's rules; the nonce, the ephemeral secret and the clock's reading are arguments. Rules: docs/protocol.md §4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import group_rules as rules
from protocol.admission import AdmissionStatement
from protocol.entrance_messages import (
    KNOWN_ADDRESSES_MAX,
    Admitted,
    Challenge,
    Hello,
    Introduce,
    LogPart,
    Proof,
    open_entrance_message,
    refusal_of,
)
from protocol.entrance_outputs import Close, HostOutput, KeepOperations, send
from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.group_author import append
from protocol.group_key import GroupKey, seal_to
from protocol.group_log import GroupLog
from protocol.group_reducer import NodeTooOld, check_has_room_for, check_invitation_is_open
from protocol.group_state import GroupState
from protocol.identity import NodeCertificate, open_certificate
from protocol.introduction_host import IntroductionHost
from protocol.keys import GroupId, NodeId, node_id_of, public_key_of
from protocol.operation_kinds import MemberAdmit, NodeBind, Payload
from protocol.sync import first_batch
from protocol.wire import Wire


@dataclass(frozen=True, slots=True)
class Hosted:
    """One group that this node is in. `known`: where its nodes can be dialled."""

    log: GroupLog
    group_key: GroupKey
    known: tuple[NodeAddresses, ...] = ()


class EntranceHost:
    """One stranger's conversation. `peer` is its name as the stream has authenticated it.

    `nonce` (32 bytes) and `ephemeral_secret` (32 bytes) are random and used for this conversation alone.
    """

    def __init__(
        self,
        groups: Mapping[GroupId, Hosted],
        key: Ed25519PrivateKey,
        *,
        peer: NodeId,
        nonce: bytes,
        ephemeral_secret: bytes,
    ) -> None:
        self._groups = groups
        self._key = key
        self._node_id = node_id_of(public_key_of(key))
        self._peer = peer
        self._nonce = nonce
        self._ephemeral_secret = ephemeral_secret
        self._challenged: tuple[Hello, NodeCertificate] | None = None
        self._introduction: IntroductionHost | None = None
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
                case Hello() if self._challenged is None and self._introduction is None:
                    return self._on_hello(message, now)
                case Proof() if self._challenged is not None:
                    return self._on_proof(*self._challenged, message, now)
                case Introduce() if self._challenged is None:
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
            raise Refused(
                "unknown-group", f"This node is in no group {group[:12]}", remedy="knock at a node of that group"
            )
        return hosted

    def _check_admissible(self, state: GroupState, hello: Hello, certificate: NodeCertificate, now: int) -> None:
        rules.only_admins_and_members_admit(state, self._node_id)
        if not hello.invite_id:
            rules.owner_must_be_a_member(state, certificate.member_id)
        check_invitation_is_open(rules.invitation_must_exist(state, hello.invite_id), now)
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
            self._introduction = IntroductionHost(self._hosted(message.group).log, self._peer)
        outputs, refused = self._introduction.receive(message)
        self.ended = any(isinstance(output, Close) for output in outputs)
        return [*outputs, *self._refuse(refused)] if refused else outputs

    def _refuse(self, refused: Refused) -> list[HostOutput]:
        return self._end(refusal_of(refused), refused)

    def _end(self, message: Wire, refused: Refused | None = None) -> list[HostOutput]:
        self.ended = True
        return [send(message), Close(refused)]


def _parts(log: GroupLog) -> list[tuple[bytes, ...]]:
    """The whole log in canonical order, cut into messages."""
    operations = list(log)
    parts = []
    while operations:
        batch = first_batch(operations)
        parts.append(tuple(operation.raw for operation in batch))
        operations = operations[len(batch) :]
    return parts
