"""What the entrance's machines ask their driver to do, in the order in which it must be done."""

from dataclasses import dataclass

from protocol.errors import Refused
from protocol.group.operations import OpenOperation
from protocol.keys import GroupId
from protocol.wire import Wire, pack


@dataclass(frozen=True, slots=True)
class SendFrame:
    frame: bytes


@dataclass(frozen=True, slots=True)
class KeepOperations:
    """New in the group's log. Make them durable before any later output; then gossip them, and open the door anew."""

    group: GroupId
    operations: tuple[OpenOperation, ...]


@dataclass(frozen=True, slots=True)
class KeepSiblings:
    """What is known of the member's nodes has changed. Make it durable before any later output; then tell the others,
    and open the door anew."""


@dataclass(frozen=True, slots=True)
class Close:
    """The host's end is done: close the stream once the frames before are sent. `refused`: why, for the node's log."""

    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The guest's end is done, in vain. `reason` is for the user, unless another entrance may do better (§4.10)."""

    reason: Refused


HostOutput = SendFrame | KeepOperations | KeepSiblings | Close


def send(message: Wire) -> SendFrame:
    return SendFrame(pack(message))
