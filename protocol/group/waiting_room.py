"""Operations that came before what they rest on: kept for a while, in bounded room, until the missing ones arrive.

What is pushed out is not lost to the group: whoever has it sends it again at the next anti-entropy.
"""

from collections.abc import Iterable

from protocol.group.operations import OpenOperation
from protocol.keys import Hash
from protocol.limits import WAITING_BYTES_MAX, WAITING_OPERATIONS_MAX


class WaitingRoom:
    """First in, first out when it is full: a flood of orphans pushes out older ones, and costs no more memory."""

    def __init__(self) -> None:
        self._operations: dict[Hash, OpenOperation] = {}  # in order of arrival
        self._lacks: dict[Hash, set[Hash]] = {}  # waiting operation → what it still lacks
        self._awaited_by: dict[Hash, set[Hash]] = {}  # missing operation → who waits for it
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._operations)

    def __contains__(self, operation: object) -> bool:
        return operation in self._operations

    def lacked_by(self, operation: Hash) -> tuple[Hash, ...]:
        """What the waiting `operation` still lacks, sorted."""
        return tuple(sorted(self._lacks[operation]))

    def missing(self) -> tuple[Hash, ...]:
        """What has to come from elsewhere, sorted: awaited, and not waiting here itself."""
        return tuple(sorted(awaited for awaited in self._awaited_by if awaited not in self._operations))

    def put(self, operation: OpenOperation, lacks: Iterable[Hash]) -> None:
        """Keep `operation` until all of `lacks` has arrived, or until newer ones push it out."""
        self._operations[operation.hash] = operation
        self._lacks[operation.hash] = set(lacks)
        self._bytes += len(operation.raw)
        for missing in self._lacks[operation.hash]:
            self._awaited_by.setdefault(missing, set()).add(operation.hash)
        while len(self._operations) > WAITING_OPERATIONS_MAX or self._bytes > WAITING_BYTES_MAX:
            self._remove(next(iter(self._operations)))

    def arrived(self, arrived: Hash) -> list[OpenOperation]:
        """Take out and return the operations that lacked nothing but `arrived`."""
        complete = []
        for waiting in sorted(self._awaited_by.pop(arrived, ())):
            self._lacks[waiting].discard(arrived)
            if not self._lacks[waiting]:
                complete.append(self._remove(waiting))
        return complete

    def copy(self) -> "WaitingRoom":
        other = WaitingRoom()
        for hash_, operation in self._operations.items():
            other.put(operation, self._lacks[hash_])
        return other

    def _remove(self, hash_: Hash) -> OpenOperation:
        operation = self._operations.pop(hash_)
        self._bytes -= len(operation.raw)
        for missing in self._lacks.pop(hash_):
            waiting = self._awaited_by[missing]
            waiting.discard(hash_)
            if not waiting:
                del self._awaited_by[missing]
        return operation
