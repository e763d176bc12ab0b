"""A checkpoint's blob that goes bad on a node's disk is noticed when it is read, fetched again, and told of; the run
goes on, and nobody is accused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from protocol.keys import BlobId, RunId

ROUNDS = 12


def committed_round(life: Life, run: RunId) -> int:
    known = life.node.runs.known.get(run)
    return -1 if known is None or known.driver is None else known.driver.machine.ledger.committed_round


def newest_model(life: Life, run: RunId) -> BlobId:
    return BlobId(life.node.runs.known[run].driver.machine.ledger.newest.model)  # type: ignore[union-attr]


async def said(life: Life, run: RunId) -> list[str]:
    page = await life.node.service.logs(run, None, 5000)
    return [row["message"] for row in page["logs"]]


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
            print(life.number, life in victims)
            for line in await said(life, run):
                print("   ", line)
            seen = await life.node.service.run(run)
            print([(p["state"], p["reason"]) for p in seen["participants"]])

    on_hostile_ground(tmp_path, main)
