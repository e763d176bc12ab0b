"""What is said at the entrance, where strangers knock. Rules: docs/protocol.md §4.

A joiner says Hello, is challenged, proves, and is admitted with the log and the group's key. A member whose admission
has not been heard of introduces itself. A machine with a device token becomes one more node of the host's member, and
such a node shows itself to its siblings (docs/protocol.md §10). Every answer may be a Refusal.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from protocol.entrance.siblings import GroupsTold, RawCertificates, RawRevocations
from protocol.errors import Refused
from protocol.fields import (
    Bytes32,
    GroupIdText,
    HashOrEmpty,
    HashText,
    Name,
    SignatureBytes,
    Text,
    as_text,
)
from protocol.group.address_record import RawAddressRecords
from protocol.group.key import SEALED_KEY_BYTES
from protocol.group.operation_kinds import RawCertificate, RawRevocation
from protocol.limits import EPOCH_MAX, FRAME_BYTES_MAX, SYNC_HEADS_MAX, SYNC_OPERATIONS_MAX
from protocol.wire import Wire, unpack

SHOWN_HASHES_MAX = SYNC_HEADS_MAX + 64
RawOperations = Annotated[tuple[bytes, ...], Field(max_length=SYNC_OPERATIONS_MAX)]


class Hello(Wire):
    """A joiner knocks. `invite_id` is "" for one more node of somebody who is a member already."""

    type: Literal["hello"] = "hello"
    group: GroupIdText
    invite_id: HashOrEmpty
    certificate: RawCertificate


class Challenge(Wire):
    """The admitter's nonce, which the proof must cover."""

    type: Literal["challenge"] = "challenge"
    nonce: Bytes32


class Proof(Wire):
    type: Literal["proof"] = "proof"
    signature: SignatureBytes


class LogPart(Wire):
    """The beginning, or a further part, of the group's log, in canonical order; Admitted brings the last."""

    type: Literal["log-part"] = "log-part"
    operations: RawOperations


class Admitted(Wire):
    """The joiner is in. `operations`: the last part of the log. `sealed_key`: the key of `epoch`, for the joiner alone.

    `known`: address records of members' nodes, as far as the admitter has them."""

    type: Literal["admitted"] = "admitted"
    operations: RawOperations
    epoch: Annotated[int, Field(ge=0, le=EPOCH_MAX)]
    sealed_key: Annotated[bytes, Field(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]
    known: RawAddressRecords


class Introduce(Wire):
    """Operations that show that the sender's node is a member's. `last`: the host may judge now."""

    type: Literal["introduce"] = "introduce"
    group: GroupIdText
    operations: RawOperations
    last: bool


class Ask(Wire):
    """The host lacks what the shown operations rest on; it holds these."""

    type: Literal["ask"] = "ask"
    holds: Annotated[tuple[HashText, ...], Field(max_length=SHOWN_HASHES_MAX)]


class Welcome(Wire):
    """The host knows the sender now: its door is open."""

    type: Literal["welcome"] = "welcome"


class Refusal(Wire):
    """No, with the rule's code, and why and what to do for a person at the other end."""

    type: Literal["refusal"] = "refusal"
    code: Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,39}$")]
    what: Text
    remedy: Text

    def as_error(self) -> Refused:
        return Refused(self.code, self.what, remedy=self.remedy)


class LinkHello(Wire):
    """A machine knocks with a device token, named by its id. It is challenged as a joiner is."""

    type: Literal["link-hello"] = "link-hello"
    link_id: HashText


class LinkProof(Wire):
    """What the new node's certificate is to say, its consent to it, and the proof that it holds the token's seed."""

    type: Literal["link-proof"] = "link-proof"
    node_name: Name
    seal_key: Bytes32
    consent: SignatureBytes
    signature: SignatureBytes


class Linked(Wire):
    """The knocking node is the member's: its certificate, what is known of its siblings, the groups that await it, and
    address records, the host's own first."""

    type: Literal["linked"] = "linked"
    certificate: RawCertificate
    certificates: RawCertificates
    revocations: RawRevocations
    groups: GroupsTold
    known: RawAddressRecords


class SiblingHello(Wire):
    """One of the host's member's nodes, of which the host may not have heard yet, shows its certificate."""

    type: Literal["sibling-hello"] = "sibling-hello"
    certificate: RawCertificate


class Revoked(Wire):
    """The knocking node is no node of its member any more, by that member's own signed word."""

    type: Literal["revoked"] = "revoked"
    revocation: RawRevocation


EntranceMessage = (
    Hello
    | Challenge
    | Proof
    | LogPart
    | Admitted
    | Introduce
    | Ask
    | Welcome
    | Refusal
    | LinkHello
    | LinkProof
    | Linked
    | SiblingHello
    | Revoked
)
_ENTRANCE_MESSAGE = cast(type[EntranceMessage], cast(Any, Annotated[EntranceMessage, Field(discriminator="type")]))


def open_entrance_message(frame: bytes) -> EntranceMessage:
    """Raises RemoteProtocolError when the frame is none of the entrance's messages."""
    return unpack(_ENTRANCE_MESSAGE, frame, FRAME_BYTES_MAX)


def refusal_of(refused: Refused) -> Refusal:
    return Refusal(code=refused.code, what=as_text(refused.what), remedy=as_text(refused.remedy))
