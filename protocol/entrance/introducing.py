"""The guest's end of an introduction: a member shows a node that has not heard of its admission what it rests on.

Sans-I/O, as `joining`. First the newest operations are shown, which is all that most hosts lack; a host that lacks more
says what it holds, and is shown the rest. Rules: docs/protocol.md §4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.entrance.messages import Ask, Introduce, Refusal, Welcome, open_entrance_message
from protocol.entrance.outputs import SendFrame, TurnedAway, send
from protocol.errors import LocalProtocolError, Refused, RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.group.operations import OpenOperation
from protocol.group.sync import first_batch
from protocol.keys import Hash, NodeId
from protocol.limits import INTRODUCTION_BYTES_MAX

_SHOWN_FIRST = 32  # operations: the admission, and what happened in the hour before it; about 30 KiB


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The host's door is open to us now: dial it as a member."""


IntroductionOutput = SendFrame | Welcomed | TurnedAway


class Introduction:
    """One knock at one entrance. Send what `open` gives, then hand every received frame to `receive`."""

    def __init__(self, log: GroupLog, node_id: NodeId) -> None:
        bindings = log.bindings_of(node_id)
        if not bindings:
            raise LocalProtocolError(
                f"Node {node_id} was never admitted to the group", remedy="join it before introducing yourself"
            )
        self._log = log
        self._rests_on = log.ancestors(bindings)
        self._shown_bytes = 0
        self._asked = False
        self.ended = False

    def open(self) -> list[IntroductionOutput]:
        newest = [operation for operation in self._log if operation.hash in self._rests_on][-_SHOWN_FIRST:]
        while len(first_batch(newest)) < len(newest):
            newest.pop(0)
        return self._show(newest)

    def receive(self, frame: bytes) -> list[IntroductionOutput]:
        """What to do about `frame`. After Welcomed or TurnedAway nothing more comes: close the stream.

        Raises:
            RemoteProtocolError: the host does not keep to the protocol: reset.
        """
        message = open_entrance_message(frame)
        if self.ended:
            raise RemoteProtocolError("An entrance went on talking after the end")
        match message:
            case Welcome():
                self.ended = True
                return [Welcomed()]
            case Refusal():
                return self._give_up(message.as_error())
            case Ask() if not self._asked:
                self._asked = True
                return self._show_what_it_lacks(message.holds)
        raise RemoteProtocolError(f"An entrance said {message.type} where it does not belong")

    def _show_what_it_lacks(self, holds: tuple[Hash, ...]) -> list[IntroductionOutput]:
        lacking = [operation for operation in self._log.operations_since(holds) if operation.hash in self._rests_on]
        if self._shown_bytes + sum(len(operation.raw) for operation in lacking) > INTRODUCTION_BYTES_MAX:
            return self._give_up(
                Refused(
                    "too-far-behind",
                    "The node lacks more of the group's log than its entrance takes in",
                    remedy="wait until it has heard the rest from another member",
                )
            )
        return self._show(lacking)

    def _show(self, operations: Sequence[OpenOperation]) -> list[IntroductionOutput]:
        frames: list[IntroductionOutput] = []
        shown = 0
        while not frames or shown < len(operations):
            batch = first_batch(operations[shown:])
            shown += len(batch)
            self._shown_bytes += sum(len(operation.raw) for operation in batch)
            message = Introduce(
                group=self._log.group,
                operations=tuple(operation.raw for operation in batch),
                last=shown == len(operations),
            )
            frames.append(send(message))
        return frames

    def _give_up(self, reason: Refused) -> list[IntroductionOutput]:
        self.ended = True
        return [TurnedAway(reason)]
