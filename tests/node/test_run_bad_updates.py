"""Trainers that offer what an aggregator must refuse: an auditor judges it alike, and nobody honest is accused.
docs/protocol.md §8.16 to §8.18."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from node.run.driver import RunDriver
from protocol.checkpoint import Offer
from protocol.keys import BlobId, RunId
from protocol.run_events import RunEvent, Trained

Trick = Callable[[RunDriver, Offer], Awaitable[Offer]]
ROUND = '[round]\nlate = "use"\ndeadline_s = 30.0\n'


async def shorter(driver: RunDriver, offer: Offer) -> Offer:
    """Says the right length of a blob that has another."""
    return offer.model_copy(update={"update": await driver._disk.put_blob(b"short")})


async def longer(driver: RunDriver, offer: Offer) -> Offer:
    data = await driver._disk.read_blob(BlobId(offer.update))
    return offer.model_copy(update={"update": await driver._disk.put_blob(data + b"more")})


async def what_all_have(driver: RunDriver, offer: Offer) -> Offer:
    """A blob that every auditor has on its disk, and of another length."""
    return offer.model_copy(update={"update": driver.machine.ledger.newest.tensor_schema})


async def said_wrong(driver: RunDriver, offer: Offer) -> Offer:
    return offer.model_copy(update={"update_bytes": offer.update_bytes + 4})


async def late_and_many_samples(driver: RunDriver, offer: Offer) -> Offer:
    """Too many samples as they are claimed, and not too many once they are halved for being late."""
    await trio.sleep(40)  # virtual time passes
    return offer.model_copy(update={"samples": 2**49})


@pytest.mark.parametrize("trick", [shorter, longer, what_all_have, said_wrong, late_and_many_samples])
def test_an_honest_aggregator_is_not_accused_for_a_bad_update(trick: Trick, tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(4)
        text = CONFIGURATION.format(name="run", rounds=3, nodes=4, audit="full", join_deadline_s=600.0) + ROUND
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])

        def reigns(life: Life) -> bool:
            known = life.node.runs.known.get(run)
            return known is not None and known.driver is not None and known.driver.machine.reign is not None

        await ground.settled(lambda: any(map(reigns, lives)), "an aggregator")
        driver = next(life for life in lives if not reigns(life)).node.runs.known[run].driver
        assert driver is not None
        honest = driver._do

        async def dishonest(wanted: object) -> RunEvent | None:
            event = await honest(wanted)  # type: ignore[arg-type]
            return Trained(await trick(driver, event.offer)) if isinstance(event, Trained) else event

        driver._do = dishonest  # type: ignore[method-assign, assignment]
        drivers = [known for life in lives if (known := life.node.runs.known[run].driver) is not driver]

        def deposed() -> set[str]:
            return {node for each in drivers if each is not None for node in each.machine.context.deposed}

        def is_over() -> bool:
            return bool(deposed()) or all(each is not None and each.ended.is_set() for each in drivers)

        await ground.settled(is_over, "the run's end")
        assert not deposed()

    on_hostile_ground(tmp_path, main)
