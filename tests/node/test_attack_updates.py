"""Trainers whose updates an auditor must judge as the aggregator did: nobody honest is accused. §8.16 to §8.18."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from node.run_driver import RunDriver
from protocol.keys import BlobId, RunId
from protocol.run_events import Train, Trained

Trick = Callable[[RunDriver, Train, Trained], Awaitable[Trained]]


async def shorter(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    """Announces the right length, and gives a blob of another."""
    blob = await driver._disk.put_blob(b"short" + str(wanted.round).encode())
    return Trained(made.offer.model_copy(update={"update": blob}))


async def longer(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    data = await driver._disk.read_blob(BlobId(made.offer.update))
    blob = await driver._disk.put_blob(data + b"xxxx")
    return Trained(made.offer.model_copy(update={"update": blob}))


async def the_schema(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    """Offers a blob that everybody has."""
    return Trained(made.offer.model_copy(update={"update": wanted.base.tensor_schema}))


async def the_model(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    return Trained(made.offer.model_copy(update={"update": wanted.base.model}))


async def announced_wrong(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    return Trained(made.offer.model_copy(update={"update_bytes": made.offer.update_bytes + 4}))


async def many_samples(driver: RunDriver, wanted: Train, made: Trained) -> Trained:
    return Trained(made.offer.model_copy(update={"samples": 2**49}))


@pytest.mark.parametrize("audit", ["full", "spot"])
@pytest.mark.parametrize("trick", [shorter, longer, the_schema, the_model, announced_wrong, many_samples])
def test_an_honest_aggregator_is_not_accused_for_a_bad_update(trick: Trick, audit: str, tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(4)
        run = await ground.propose(lives[0], rounds=3, nodes=4, audit=audit)

        def first() -> Life | None:
            for life in lives:
                known = life.node.runs.known.get(run)
                if (
                    known
                    and known.driver
                    and known.driver.machine.reign
                    and known.driver.machine.ledger.committed_round >= 0
                ):
                    return life
            return None

        await ground.settled(lambda: first() is not None, "an aggregator")
        culprit = next(life for life in lives if life is not first())
        driver = culprit.node.runs.known[run].driver
        assert driver is not None
        honest = driver._do

        async def dishonest(wanted):
            event = await honest(wanted)
            return await trick(driver, wanted, event) if isinstance(event, Trained) else event

        driver._do = dishonest
        for known in await ground.ended(run, lives):
            m = known.driver.machine
            print(
                [(known.chronicle,) and [(e.refused) for e in m.ledger.committed.checkpoint.updates]],
                m.ledger.newest.outcome,
                m.ledger.committed_round,
            )
            assert not m.context.deposed, m.context.deposed

    on_hostile_ground(tmp_path, main)
