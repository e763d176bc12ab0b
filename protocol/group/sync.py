"""Anti-entropy: two replicas of a group's log tell each other what they hold and send what the other lacks.

Every message carries both a summary and operations, so two logs that have parted agree again after three messages,
and a long difference goes in batches, one answer each. Rules: docs/protocol.md §5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from protocol.errors import RemoteProtocolError
from protocol.fields import GroupIdText, HashText
from protocol.group.log import GroupLog
from protocol.group.operations import OpenOperation
from protocol.keys import Hash
from protocol.limits import OPERATION_BYTES_MAX, SYNC_BYTES_MAX, SYNC_HEADS_MAX, SYNC_OPERATIONS_MAX
from protocol.wire import Wire, hash_of

_SAMPLE_MAX = 64  # eight and one for every doubling of the log's length: room for 2^56 operations
_PARTING_OPERATIONS = 64  # the newest: what the other end, which was in touch until now, may lack
SYNC_MESSAGE_BYTES_MAX = SYNC_BYTES_MAX + OPERATION_BYTES_MAX + (SYNC_HEADS_MAX + _SAMPLE_MAX) * 80


class SyncMessage(Wire):
    """What the sender holds, and some of what it thinks the receiver lacks.

    `opens`: a new conversation; forget the last. `digest`: over all heads; equal digests mean equal logs.
    `holds`: the heads, and a sample of older operations. `operations`: in an order in which they can be added.
    """

    group: GroupIdText
    opens: bool
    digest: HashText
    holds: Annotated[tuple[HashText, ...], Field(max_length=SYNC_HEADS_MAX + _SAMPLE_MAX)]
    operations: Annotated[tuple[bytes, ...], Field(max_length=SYNC_OPERATIONS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class SyncResult:
    """`answer` goes back over the same stream, if there is one. `added`: new here, to be made durable before that.

    `fault`: what was wrong with the first operation that was refused; an honest peer of our version never causes one.
    """

    answer: SyncMessage | None
    added: tuple[OpenOperation, ...]
    fault: RemoteProtocolError | None = None


class SyncSession:
    """One end of the conversation with one peer over one ordered stream. Both ends may open, also at once.

    Every answer sends operations that this conversation has not sent yet, or follows upon some, so it ends.
    """

    def __init__(self, log: GroupLog) -> None:
        self._log = log
        self._peer_holds: set[Hash] = set()  # by its word, or sent to it in this conversation

    def open(self) -> SyncMessage:
        """The first message of a new conversation: on connecting, and every ANTI_ENTROPY_S."""
        self._peer_holds.clear()
        return self._message(opens=True, operations=())

    def open_with_news(self) -> SyncMessage:
        """As `open`, with what the other seems to lack, for whoever will not get to answer: a parting word."""
        batch = first_batch(self._log.operations_since(self._peer_holds)[-_PARTING_OPERATIONS:])
        self._peer_holds.clear()
        return self._message(opens=True, operations=tuple(operation.raw for operation in batch))

    def receive(self, message: SyncMessage) -> SyncResult:
        """Add what the peer sent, and answer with what it lacks.

        Raises:
            RemoteProtocolError: the message is of another group.
        """
        if message.group != self._log.group:
            raise RemoteProtocolError(f"Anti-entropy of group {message.group[:12]} came to {self._log.group[:12]}")
        if message.opens:
            self._peer_holds.clear()
        news, added, fault = self._take(message.operations)
        self._peer_holds.update(hash_ for hash_ in message.holds if hash_ in self._log)
        if message.digest == heads_digest(self._log):
            self._peer_holds.clear()
            return SyncResult(None, added, fault)
        batch = first_batch(self._log.operations_since(self._peer_holds))
        self._peer_holds.update(operation.hash for operation in batch)
        if not batch and not news and not message.opens:
            return SyncResult(None, added, fault)  # it has nothing more that we can take, nor we for it
        answer = self._message(opens=False, operations=tuple(operation.raw for operation in batch))
        return SyncResult(answer, added, fault)

    def _take(
        self, operations: tuple[bytes, ...]
    ) -> tuple[bool, tuple[OpenOperation, ...], RemoteProtocolError | None]:
        """Whether any was new to us, what is new in the log, and the first one's fault that has one.

        A bad one does not keep out the rest: a newer fednode may write what this one cannot read."""
        added: list[OpenOperation] = []
        fault: RemoteProtocolError | None = None
        news = False
        for raw in operations:
            hash_ = hash_of(raw)
            news = news or hash_ not in self._log
            try:
                added.extend(self._log.add(raw).added)
            except RemoteProtocolError as error:
                fault = fault or error
            if hash_ in self._log:
                self._peer_holds.add(hash_)
        return news, tuple(added), fault

    def _message(self, *, opens: bool, operations: tuple[bytes, ...]) -> SyncMessage:
        holds = dict.fromkeys((*self._log.heads()[:SYNC_HEADS_MAX], *self._log.sample()))
        return SyncMessage(
            group=self._log.group,
            opens=opens,
            digest=heads_digest(self._log),
            holds=tuple(holds),
            operations=operations,
        )


def heads_digest(log: GroupLog) -> Hash:
    """One hash for the whole set: the heads determine all that they rest on."""
    return hash_of("".join(sorted(log.heads())).encode())


def first_batch(operations: Iterable[OpenOperation]) -> list[OpenOperation]:
    """As many of the first operations as go into one message: SYNC_OPERATIONS_MAX and about SYNC_BYTES_MAX."""
    batch: list[OpenOperation] = []
    room = SYNC_BYTES_MAX
    for operation in operations:
        room -= len(operation.raw)
        if (batch and room < 0) or len(batch) == SYNC_OPERATIONS_MAX:
            break
        batch.append(operation)
    return batch
