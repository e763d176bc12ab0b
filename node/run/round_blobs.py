"""Who of this node works with what lies here for a round alone: the one place that says whether such a blob may go.

The same bytes are often several things at once: runs alike (one task, seed and data) make the same updates and the same
differences, a rule that picks one update makes a difference of it, and a round may give what the one before gave. So
nobody deletes a blob for its own sake. Each user (a run, or an owner's audit) claims what it makes or fetches, for a
round, before it looks whether it is here; and gives the claim up when that round is over. With its last claim a blob
goes, if it came or was made here under a claim, and if no run has it in its chain or keeps it.
"""

from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager

import trio

from node.seams import Disk
from protocol.keys import BlobId


class RoundBlobs:
    """One node's. `is_held`: whether any run has a blob in its chain, offers it or keeps it, claimed or not."""

    def __init__(self, disk: Disk, is_held: Callable[[BlobId], bool] = lambda blob: False) -> None:
        self._disk = disk
        self._is_held = is_held
        self._claims: dict[str, dict[str, int]] = {}  # by user: what it works with, and for which round
        # Whoever offers an update, or makes a checkpoint, chooses what it is called, and a task what its update is:
        # nothing that was here before anybody claimed it is ever deleted on their word.
        self._passing: set[str] = set()
        self._changing = trio.Lock()  # what is claimed does not go, and what goes has gone when the claim is made

    def claims_of(self, user: str) -> dict[str, int]:
        """What `user` works with, and the newest round that it is for. To be looked at only."""
        return self._claims.setdefault(user, {})

    async def claim(self, user: str, blob: BlobId, round_number: int) -> bool:
        """Claim a blob; whether it is here. If it is not, and comes while it is claimed, it goes with the last claim.
        Raises FednodeError."""
        async with self._changing:
            self._note(user, blob, round_number)
            is_here = await self._disk.has_blob(blob)
            if not is_here:
                self._passing.add(blob)
            return is_here

    @asynccontextmanager
    async def storing(self, user: str, round_number: int) -> AsyncIterator[Callable[[BlobId, bool], None]]:
        """Within, a file is stored whose name is not known yet, and nothing goes; then the name, and whether it is new,
        are to be told."""
        async with self._changing:

            def stored(blob: BlobId, is_new: bool) -> None:
                self._note(user, blob, round_number)
                if is_new:
                    self._passing.add(blob)

            yield stored

    def _note(self, user: str, blob: BlobId, round_number: int) -> None:
        claims = self.claims_of(user)
        claims[blob] = max(claims.get(blob, round_number), round_number)

    async def give_up(self, user: str, *, until: int | None = None, but: Set[str] = frozenset()) -> None:
        """Give up what `user` claimed for rounds `until` this one (None: for any), `but` for some; nobody else's claim
        changes. Raises FednodeError when the disk does not delete."""
        claims = self.claims_of(user)
        for blob in sorted(claims.keys() - but):
            async with self._changing:
                if blob in claims and (until is None or claims[blob] <= until):  # it may have been claimed anew
                    del claims[blob]
                    await self._delete_unless_claimed(BlobId(blob))

    async def _delete_unless_claimed(self, blob: BlobId) -> None:
        is_claimed = any(blob in claims for claims in self._claims.values())
        if blob not in self._passing or is_claimed or self._is_held(blob):
            return
        self._passing.discard(blob)
        await self._disk.delete_blob(blob)
