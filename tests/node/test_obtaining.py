"""Making a checkpoint's blobs durable here: at most once, however often it is asked for."""

from pathlib import Path

import pytest
import trio
from hostile_ground import HostileGround, on_hostile_ground

from node.run.obtaining import Obtaining
from protocol.run.checkpoint import Checkpoint
from protocol.run.events import Obtain
from protocol.wire import hash_of


def test_a_checkpoint_that_is_proposed_and_committed_meanwhile_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def nothing_to_fetch(*arguments: object) -> None:
        await trio.lowlevel.checkpoint()

    async def make(self: Obtaining, previous: Checkpoint, checkpoint: Checkpoint, schema: object) -> None:
        made.append(checkpoint.model)
        await trio.sleep(5)  # virtual time passes

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(2)
        known, _ = await ground.ended(await ground.propose(lives[0], nodes=2, rounds=2), lives)
        assert known.driver is not None
        data, ledger = known.driver._data, known.driver.machine.ledger
        previous = ledger.committed_before(ledger.newest)
        wanted = Obtain(hash_of(b"proposed"), ledger.newest, previous, ())
        monkeypatch.setattr(Obtaining, "_fetch_difference", nothing_to_fetch)
        monkeypatch.setattr(Obtaining, "_make_from", make)
        results: list[bool] = []

        async def obtain() -> None:
            results.append(await data.checkpoints.obtain(wanted, known.driver._lacks_room))  # type: ignore[union-attr]

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(obtain)
        assert results == [True] * 3
        assert made == [ledger.newest.model]

    on_hostile_ground(tmp_path, main)
