"""What only led to a committed round is deleted: all of it, in time, and nothing that others still ask for."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from hostile_ground import HostileGround, on_hostile_ground

from node.run.data import RunData
from node.seams import Disk
from protocol.keys import BlobId
from protocol.run.checkpoint import Checkpoint, open_offer


def _after_a_run(folder: Path, test: Callable[[RunData, Disk, Checkpoint], Awaitable[None]]) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=1, nodes=3)
        (known, *_) = await ground.ended(run, lives)
        assert known.driver is not None
        await test(known.driver._data, known.driver._disk, known.driver.machine.ledger.newest)

    on_hostile_ground(folder, main)


async def _came(data: RunData, update: bytes) -> BlobId:
    """An update that was collected for the round under way."""
    blob = await data.blobs.put_for_a_round(update, 1)
    data._updates.add(blob)
    return blob


def test_an_update_that_no_checkpoint_lists_goes_a_round_later(tmp_path: Path) -> None:
    """It came while the others were combined, or to who was not elected again: until the next commit it may come
    late (docs/protocol.md §8.20)."""

    async def test(data: RunData, disk: Disk, committed: Checkpoint) -> None:
        update = await _came(data, b"of nobody's checkpoint")
        await data.forget_before(committed, None)
        assert await disk.has_blob(update)
        await data.forget_before(committed, None)
        assert not await disk.has_blob(update)
        assert not data.holds(update)

    _after_a_run(tmp_path, test)


def test_a_difference_that_is_also_an_update_stays_while_others_may_ask_for_it(tmp_path: Path) -> None:
    """Where nobody learned anything all updates are alike, and so is what comes of them."""

    async def test(data: RunData, disk: Disk, committed: Checkpoint) -> None:
        zeros = await _came(data, b"\0" * 64)
        offer = open_offer(committed.updates[0].offer).body.model_copy(update={"update": zeros})
        same = committed.model_copy(update={"difference": zeros})
        data._updates.discard(zeros)  # as where the checkpoint lists it
        await data.forget_before(same, offer.model_copy(update={"round": 0}))
        assert await disk.has_blob(zeros)
        await data.forget_before(committed, None)
        assert not await disk.has_blob(zeros)

    _after_a_run(tmp_path, test)
