"""A checkpoint's blob that goes bad on a node's disk is noticed when it is read, fetched again, and told of; the run
goes on, and nobody is accused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.api.service.service import LogsQuery
from protocol.keys import BlobId, RunId

ROUNDS = 12


def committed_round(life: Life, run: RunId) -> int:
    known = life.node.runs.known.get(run)
    return -1 if known is None or known.driver is None else known.driver.machine.ledger.committed_round


def newest_model(life: Life, run: RunId) -> BlobId:
    return BlobId(life.node.runs.known[run].driver.machine.ledger.newest.model)  # type: ignore[union-attr]


async def said(life: Life, run: RunId) -> list[str]:
    """A node's lines of `fednode run logs`, from the warnings up."""
    page = await life.node.service.logs(run, LogsQuery(node=life.node.identity.node_id, level="WARNING"))
    return [row["message"] for row in page.lines]


def victims_of(case: str, lives: Sequence[Life], run: RunId) -> list[Life]:
    aggregator = lives[0].node.runs.known[run].driver.machine.election.aggregator  # type: ignore[union-attr]
    reigning = [life for life in lives if life.node.identity.node_id == aggregator]
    others = [life for life in lives if life.node.identity.node_id != aggregator]
    return {"aggregator": reigning, "participant": others[:1], "two of three": [*reigning, *others[:1]]}[case]


@pytest.mark.parametrize("case", ["aggregator", "participant", "two of three"])
def test_a_model_that_went_bad_is_fetched_again(tmp_path: Path, case: str) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], nodes=3, rounds=ROUNDS)
        await ground.settled(lambda: all(committed_round(life, run) >= 3 for life in lives), "round 3")
        victims = victims_of(case, lives, run)
        for life in victims:
            life.disk.damage_blob(newest_model(life, run))
        known = await ground.ended(run, lives)
        alive(*lives)
        for entry in known:
            ledger = entry.driver.machine.ledger
            assert (ledger.newest.outcome, ledger.committed_round) == ("finished", ROUNDS)
        for life in lives:
            assert not any("lied" in line for line in await said(life, run))
        for life in victims:
            noticed, mended = await said(life, run)
            assert noticed.startswith("the model of round")
            found = "is damaged in chunk 0. It is fetched again from the others" in noticed
            # Of two, one may find that it has it no more, for the other has asked it and so found the damage.
            assert found or (case == "two of three" and "is not here. It is fetched again" in noticed)
            assert mended.startswith("the model of round")
            assert mended.endswith("is whole again")
        states = {entry["state"] for entry in (await lives[0].node.service.run(run))["participants"]}
        assert states <= {"FINISHED", "WAITING", "TRAINING"}

    on_hostile_ground(tmp_path, main)


def test_the_only_copy_went_bad(tmp_path: Path) -> None:
    """Nobody can give it: the node's part ends with the reason, the run says what it waits for, and the node lives."""

    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=1, rounds=1000)
        await ground.settled(lambda: committed_round(owner, run) >= 3, "round 3")
        owner.disk.damage_blob(newest_model(owner, run))
        await trio.sleep(120)  # virtual time passes
        alive(owner)
        seen = await owner.node.service.run(run)
        (part,) = seen["participants"]
        print(seen["state"], seen["note"], part, await said(owner, run))
        assert part["state"] == "FAILED"
        assert "is damaged in chunk 0, and could not be fetched again: Nobody gave the blob" in part["reason"]
        await owner.node.service.stop_run(run, "the model is lost")
        await ground.ended(run, [owner])

    on_hostile_ground(tmp_path, main)
