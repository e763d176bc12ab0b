"""What this participant carries from round to round, as the run's commits have it: error feedback, SCAFFOLD's control.

Its trainer keeps it (node.training.carried_files). Here is said what it belongs to, and when it counts: from the commit
of a checkpoint on that used our update with some weight. Most runs carry nothing, and nothing is done for them.
"""

from functools import cached_property
from pathlib import Path

from node.run.blobs import RunBlobs
from node.seams import TaskSpec, Trainer
from protocol.checkpoint import Checkpoint, open_offer
from protocol.keys import BlobId


class CarriedState:
    """One participant's, in one run."""

    def __init__(self, spec: TaskSpec, trainer: Trainer, blobs: RunBlobs) -> None:
        self._spec = spec
        self._trainer = trainer
        self._blobs = blobs

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

    async def server_state(self, base: Checkpoint) -> bytes | Path:
        """What a training needs of the base's server state. Raises FednodeError."""
        if self._spec.method != "scaffold" or not base.server_state:
            return b""
        return await self._blobs.of_checkpoint(base, base.server_state)
