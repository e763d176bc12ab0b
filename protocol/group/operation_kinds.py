"""What an operation can say: one payload class for every kind that this version knows.

A kind's payload never changes once it is out: logs are for ever, and a node that refused a field would part from one
that took it. New fields make a new kind. Rules: docs/protocol.md §2 and §3.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from protocol.fields import (
    Bytes16,
    Bytes32,
    HashText,
    MemberIdText,
    Name,
    Role,
    RunIdText,
    Seconds,
    SignatureBytes,
    Text,
)
from protocol.identity import CERTIFICATE_BYTES_MAX, REVOCATION_BYTES_MAX
from protocol.limits import EPOCH_MAX, GROUP_MEMBERS_MAX, OPERATION_BYTES_MAX, RUN_ROUNDS_MAX
from protocol.signing import ENVELOPE_OVERHEAD_BYTES
from protocol.wire import Wire

RawCertificate = Annotated[bytes, Field(max_length=CERTIFICATE_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES)]
RawRevocation = Annotated[bytes, Field(max_length=REVOCATION_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES)]
RunBytes = Annotated[bytes, Field(min_length=1, max_length=OPERATION_BYTES_MAX)]


class Payload(Wire):
    """What an operation says. `CRITICAL`: a node that does not know the kind must not go on without it."""

    KIND: ClassVar[str]
    CRITICAL: ClassVar[bool]


class GroupCreate(Payload):
    """The group begins; its author's member is the first admin. `nonce` keeps apart groups of one name and author."""

    KIND: ClassVar[str] = "group.create"
    CRITICAL: ClassVar[bool] = True
    name: Name
    certificate: RawCertificate
    nonce: Bytes16


class InvitePost(Payload):
    """Whoever proves to hold the seed may be admitted, `uses` times, until `expires_at`."""

    KIND: ClassVar[str] = "invite.post"
    CRITICAL: ClassVar[bool] = True
    seed_public_key: Bytes32
    role: Role
    uses: Annotated[int, Field(ge=1, le=GROUP_MEMBERS_MAX)]
    expires_at: Seconds


class InviteRevoke(Payload):
    KIND: ClassVar[str] = "invite.revoke"
    CRITICAL: ClassVar[bool] = True
    invite_id: HashText


class MemberAdmit(Payload):
    """A new member and its first node. `admitted_at` is the admitter's clock, which only it has read."""

    KIND: ClassVar[str] = "member.admit"
    CRITICAL: ClassVar[bool] = True
    invite_id: HashText
    certificate: RawCertificate
    nonce: Bytes32
    proof: SignatureBytes
    admitted_at: Seconds


class MemberRemove(Payload):
    """The member and all its nodes are out of the group."""

    KIND: ClassVar[str] = "member.remove"
    CRITICAL: ClassVar[bool] = True
    member: MemberIdText
    reason: Text


class MemberLeave(Payload):
    """The author's member goes, with all its nodes."""

    KIND: ClassVar[str] = "member.leave"
    CRITICAL: ClassVar[bool] = True


class MemberRole(Payload):
    KIND: ClassVar[str] = "member.role"
    CRITICAL: ClassVar[bool] = True
    member: MemberIdText
    role: Role


class KeyRotate(Payload):
    """A new key for the group. `sealed`: of each recipient, its node's public key and the key sealed to it, one after
    the other. `commitment`: the BLAKE3 of the key, by which it is known when somebody hands it on later."""

    KIND: ClassVar[str] = "key.rotate"
    CRITICAL: ClassVar[bool] = False
    epoch: Annotated[int, Field(ge=1, le=EPOCH_MAX)]
    commitment: HashText
    sealed: Annotated[bytes, Field(min_length=1, max_length=OPERATION_BYTES_MAX)]


class NodeBind(Payload):
    """One more node of a member, or a newer certificate of one."""

    KIND: ClassVar[str] = "node.bind"
    CRITICAL: ClassVar[bool] = True
    certificate: RawCertificate


class NodeRevoke(Payload):
    """One node of a member is out, for good. `revocation`: the member's own signed word (protocol.identity)."""

    KIND: ClassVar[str] = "node.revoke"
    CRITICAL: ClassVar[bool] = True
    revocation: RawRevocation


class MemberProfile(Payload):
    """What the author's member says of itself. Nobody has checked it."""

    KIND: ClassVar[str] = "member.profile"
    CRITICAL: ClassVar[bool] = False
    name: Name
    organisation: Name | Literal[""]
    contact: Name | Literal[""]


class RulingWitness(Payload):
    """The author has seen what this rests on, and was not asked: its place in the log is all that it says."""

    KIND: ClassVar[str] = "ruling.witness"
    CRITICAL: ClassVar[bool] = False


class RunPropose(Payload):
    KIND: ClassVar[str] = "run.propose"
    CRITICAL: ClassVar[bool] = False
    manifest: RunBytes


class RunStart(Payload):
    KIND: ClassVar[str] = "run.start"
    CRITICAL: ClassVar[bool] = False
    run: RunIdText
    start: RunBytes


class RunStop(Payload):
    KIND: ClassVar[str] = "run.stop"
    CRITICAL: ClassVar[bool] = False
    run: RunIdText
    reason: Text


class RunResume(Payload):
    """Go on from `checkpoint`, which stopped the run (empty when nothing has stopped it yet). `stop` is the operation
    that this lifts; one that its author had not seen stands."""

    KIND: ClassVar[str] = "run.resume"
    CRITICAL: ClassVar[bool] = False
    run: RunIdText
    stop: HashText | Literal[""]
    checkpoint: HashText | Literal[""]


class RunExtend(Payload):
    """The run's last round is to be `rounds`, unless it is further on already."""

    KIND: ClassVar[str] = "run.extend"
    CRITICAL: ClassVar[bool] = False
    run: RunIdText
    rounds: Annotated[int, Field(ge=1, le=RUN_ROUNDS_MAX)]


PAYLOADS: dict[str, type[Payload]] = {
    payload.KIND: payload
    for payload in (
        GroupCreate,
        InvitePost,
        InviteRevoke,
        MemberAdmit,
        MemberRemove,
        MemberLeave,
        MemberRole,
        KeyRotate,
        NodeBind,
        NodeRevoke,
        MemberProfile,
        RulingWitness,
        RunPropose,
        RunStart,
        RunStop,
        RunResume,
        RunExtend,
    )
}
