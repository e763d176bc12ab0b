"""A model of a run that is over comes again from the nodes of its run, whichever round it is of."""

from pathlib import Path

import pytest
from hostile_ground import HostileGround, Life, on_hostile_ground

from protocol.errors import FednodeError
from protocol.keys import BlobId, RunId


async def _model(life: Life, run: RunId, round_number: int) -> BlobId:
    await life.node.record.flush()
    rows = await life.node.record.query("committed_models", run_id=run, round=round_number, limit=1)
    return BlobId(rows[0]["model"])


async def _whole(life: Life, run: RunId, round_number: int) -> bytes:
    found = await life.node.service.model_file(run, round_number)
    return b"".join([piece async for piece in found.chunks])


@pytest.mark.parametrize("round_number", [2, 3])
def test_a_model_that_is_gone_or_damaged_is_fetched_when_it_is_asked_for(tmp_path: Path, round_number: int) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=3, nodes=3)
        await ground.ended(run, lives)
        there = await _whole(lives[2], run, round_number)
        for life in lives[1:]:
            await ground.restart(life)  # which rounds there were is known from the journal then
        lost, model = lives[0], await _model(lives[0], run, round_number)
        lost.disk.damage_blob(model)
        assert await _whole(lost, run, round_number) == there
        await lost.disk.delete_blob(model)
        assert await _whole(lost, run, round_number) == there

    on_hostile_ground(tmp_path, test)


def test_the_newest_model_of_a_run_is_missed_when_all_blobs_are_verified(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3)
        await ground.ended(run, lives)
        lost, model = lives[0], await _model(lives[0], run, 2)
        assert (await lost.node.service.blobs.verify())["damaged"] == []
        await lost.disk.delete_blob(model)
        (told,) = (await lost.node.service.blobs.verify())["damaged"]
        assert (told["blob"], told["again"]) == (model, "fetched again")
        assert "is not here any more" in told["what"]
        assert await lost.disk.has_blob(model)

    on_hostile_ground(tmp_path, test)


def test_a_model_that_nobody_has_is_gone_with_a_word(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=1, nodes=2)
        await ground.ended(run, lives)
        model = await _model(lives[0], run, 1)
        for life in lives:
            await life.disk.delete_blob(model)
        with pytest.raises(FednodeError, match=r"is gone|not here"):
            await _whole(lives[0], run, 1)

    on_hostile_ground(tmp_path, test)
