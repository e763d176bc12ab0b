"""The host's end of an introduction: learns of a member whose admission this node has not heard of.

What the stranger shows is checked like any operation, so all that is good about it belongs into the log anyway.
Rules: docs/protocol.md §4.
"""

from collections.abc import Iterable

from protocol.entrance.messages import Ask, Introduce, Welcome
from protocol.entrance.outputs import Close, HostOutput, KeepOperations, send
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.group.operations import OpenOperation
from protocol.group.reducer import NodeTooOld
from protocol.group.why_out import why_out
from protocol.keys import NodeId
from protocol.limits import INTRODUCTION_BYTES_MAX, SYNC_HEADS_MAX

# Every operation costs us a check of its signature, whoever made it up. A guest shows some tens before it knows what we
# hold, and then in an order in which each has its place.
UNPLACED_MAX = 256


class IntroductionHost:
    """One stranger's introduction to one group. It is over once the outputs hold Close or `Refused` was raised."""

    def __init__(self, log: GroupLog, peer: NodeId) -> None:
        self._log = log
        self._peer = peer
        self._shown_bytes = 0
        self._unplaced = 0
        self._asked = False

    def receive(self, message: Introduce) -> tuple[list[HostOutput], Refused | None]:
        """What to do about `message`, and after that with which reason to refuse, if so.

        Raises:
            RemoteProtocolError: another group, or more than is allowed, or too much that has no place here: reset the
                stream.
        """
        if message.group != self._log.group:
            raise RemoteProtocolError("A stranger introduced itself to two groups at once")
        self._shown_bytes += sum(map(len, message.operations))
        if self._shown_bytes > INTRODUCTION_BYTES_MAX:
            raise RemoteProtocolError(f"A stranger showed more than {INTRODUCTION_BYTES_MAX} bytes of operations")
        if self._unplaced > UNPLACED_MAX:
            raise RemoteProtocolError(f"A stranger showed more than {UNPLACED_MAX} operations that have no place here")
        added, unplaced, fault = _add_all(self._log, message.operations)
        self._unplaced += unplaced
        outputs: list[HostOutput] = [KeepOperations(self._log.group, tuple(added))] if added else []
        if fault:
            return outputs, Refused("bad-operation", fault.what, remedy=fault.remedy)
        if not message.last:
            return outputs, None
        try:
            state = self._log.state()
        except NodeTooOld as error:
            return outputs, Refused("not-admitting", error.what, remedy="knock at another node of the group")
        if state.admits(self._peer):
            return [*outputs, send(Welcome()), Close()], None
        if self._unplaced and not self._asked:
            self._asked = True
            holds = dict.fromkeys((*self._log.heads()[:SYNC_HEADS_MAX], *self._log.sample()))
            return [*outputs, send(Ask(holds=tuple(holds)))], None
        reason = why_out(state, self._peer)
        if reason is not None:
            return outputs, reason
        return outputs, not_a_member()


def not_a_member() -> Refused:
    """Where the group is not known here, too: a stranger does not learn who is in which."""
    return Refused("not-a-member", "What was shown makes this node no member's", remedy="join with an invitation first")


def _add_all(log: GroupLog, operations: Iterable[bytes]) -> tuple[list[OpenOperation], int, RemoteProtocolError | None]:
    """What is new now, how many could not be added for want of what they rest on, and what was wrong, if anything."""
    added: list[OpenOperation] = []
    unplaced = 0
    for raw in operations:
        try:
            # A stranger's orphans must not push members' out of the waiting room.
            addition = log.add(raw, may_wait=False)
        except RemoteProtocolError as fault:
            return added, unplaced, fault
        added.extend(addition.added)
        unplaced += bool(addition.missing)
    return added, unplaced, None
