"""What is said at the entrance, where strangers knock. Rules: docs/protocol.md §4.

A joiner says Hello, is challenged, proves, and is admitted with the log and the group's key. A member whose admission
has not been heard of introduces itself. Every answer may be a Refusal.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from protocol.errors import Refused
from protocol.fields import (
    Bytes32,
    GroupIdText,
    HashOrEmpty,
    HashText,
    NodeAddresses,
    SignatureBytes,
    Text,
    as_text,
)
from protocol.group_key import SEALED_KEY_BYTES
from protocol.limits import EPOCH_MAX, FRAME_BYTES_MAX, SYNC_HEADS_MAX, SYNC_OPERATIONS_MAX
from protocol.operation_kinds import RawCertificate
from protocol.wire import Wire, unpack

KNOWN_ADDRESSES_MAX = 64  # of nodes, given to a joiner: enough to find the rest of the group through
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

    `known`: where members' nodes can be dialled, as far as the admitter knows."""

    type: Literal["admitted"] = "admitted"
    operations: RawOperations
    epoch: Annotated[int, Field(ge=0, le=EPOCH_MAX)]
    sealed_key: Annotated[bytes, Field(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]
    known: Annotated[tuple[NodeAddresses, ...], Field(max_length=KNOWN_ADDRESSES_MAX)]


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


EntranceMessage = Hello | Challenge | Proof | LogPart | Admitted | Introduce | Ask | Welcome | Refusal
_ENTRANCE_MESSAGE = cast(type[EntranceMessage], cast(Any, Annotated[EntranceMessage, Field(discriminator="type")]))


def open_entrance_message(frame: bytes) -> EntranceMessage:
    """Raises RemoteProtocolError when the frame is none of the entrance's messages."""
    return unpack(_ENTRANCE_MESSAGE, frame, FRAME_BYTES_MAX)


def refusal_of(refused: Refused) -> Refusal:
    return Refusal(code=refused.code, what=as_text(refused.what), remedy=as_text(refused.remedy))
