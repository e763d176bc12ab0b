"""What this participant carries from round to round, as the run's commits have it: error feedback, SCAFFOLD's control.

Its trainer keeps it (node.training.carried_files). Here is said what it belongs to, and when it counts: from the commit
of a checkpoint on that used our update with some weight. A commit that we have missed is looked up before we train
again. Most runs carry nothing, and nothing is done for them.
"""

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path

import trio

from node.run.blobs import RunBlobs
from node.run.history import RunHistory
from node.seams import TaskSpec, Trainer
from protocol.keys import BlobId, Hash
from protocol.run.checkpoint import Checkpoint, open_checkpoint, open_offer

# For the others to tell what this node has missed: the history asks at once, and twice more within this. A round that
# is trained too late for it is lost; one that is trained from the wrong state costs a little accuracy.
MISSED_WAIT_S = 30.0


class CarriedState:
    """One participant's, in one run. `warn` is told, in words, what could not be found out."""

    def __init__(
        self, spec: TaskSpec, trainer: Trainer, blobs: RunBlobs, history: RunHistory, warn: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._trainer = trainer
        self._blobs = blobs
        self._history = history
        self._warn = warn
        self._looked_upto = 0  # this round's checkpoint, and those before: nothing more is to be learned from them

    @cached_property
    def _is_any(self) -> bool:
        from node.training.participant_state import carries_state  # numpy, only in nodes that have runs

        return carries_state(self._spec.codec, self._spec.method)

    async def keep(self, round_number: int, update: BlobId) -> None:
        """This is what our last training gave. To be done before anybody hears of it. Raises FednodeError."""
        if self._is_any:
            await self._trainer.carry_on(self._spec.run_id, round_number, update, used=False)

    async def on_committed(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is committed: what belongs to an update of ours that it used counts. Saying it again changes
        nothing. Raises FednodeError."""
        if not self._is_any:
            return
        for entry in checkpoint.updates:
            offer = open_offer(entry.offer).body
            if offer.node == self._spec.node_id and entry.weight > 0:
                await self._trainer.carry_on(self._spec.run_id, offer.round, BlobId(offer.update), used=True)

    async def catch_up(self, base: Checkpoint) -> None:
        """Before a training on `base`: does what this node offered count by a commit that it has missed? Waits for the
        others to tell it, MISSED_WAIT_S at most, and for each round once. Raises FednodeError."""
        if not self._is_any:
            return
        # What was offered for a round is used in it, or in the next (§8.20).
        offered = await self._trainer.offered_rounds(self._spec.run_id)
        rounds = {number for first in offered for number in (first, first + 1)}
        wanted = {number for number in rounds if self._looked_upto < number < base.round}
        if wanted:
            found: dict[int, Checkpoint] = {}
            with trio.move_on_after(MISSED_WAIT_S):
                await self._find(base, wanted, found)
            for _, checkpoint in sorted(found.items()):
                await self.on_committed(checkpoint)
            if missing := wanted - found.keys():
                self._warn(
                    f"nobody has told this node what round {min(missing)} used. What it carries from round to round "
                    "goes on as if its own update had not been"
                )
        self._looked_upto = max(self._looked_upto, base.round)

    async def _find(self, base: Checkpoint, wanted: Collection[int], found: dict[int, Checkpoint]) -> None:
        """Walk down from `base` to the oldest of the `wanted` rounds, as the history gets to know what is there."""
        past, has_asked = self._history.past, False
        await past.refresh()
        number, name = base.round - 1, Hash(base.previous)
        while number >= min(wanted) and name not in self._history.lost:
            place = past.places.get(name)
            if place is not None:
                if number in wanted:
                    found[number] = open_checkpoint((await past.entry(name)).checkpoint).body
                number, name = place.round - 1, place.previous
                continue
            if not has_asked:
                self._history.look_back()
                has_asked = True
            await self._history.news.wait()

    async def server_state(self, base: Checkpoint) -> bytes | Path:
        """What a training needs of the base's server state. Raises FednodeError."""
        if self._spec.method != "scaffold" or not base.server_state:
            return b""
        return await self._blobs.of_checkpoint(base, base.server_state)
