"""A node whose owner's limit for blobs, or whose disk, leaves no room: the run goes on without it, and with it again
once there is room. docs/protocol.md §8.7."""

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from protocol.errors import Refused
from protocol.keys import RunId
from protocol.run.events import Elected
from tracker.blobs.quota import QUOTA_CODE

ROUNDS = 6
SOON_S = 120.0  # of virtual time, far below a round's deadline


class Quota:
    """While it `refuses`, nothing more is stored on a node's disk in the named ways."""

    def __init__(self, life: Life, *ways: str) -> None:
        self.refuses = False
        self.refused = 0
        for way in ways:
            self._guard(life, way, getattr(life.disk, way))

    def _guard(self, life: Life, way: str, store: Any) -> None:
        async def stored(*given: object, **options: object) -> Any:
            if self.refuses:
                self.refused += 1
                what = f"101,652 bytes more would go over the quota, of which {self.refused:,} are used"
                raise Refused(QUOTA_CODE, what, remedy="raise it (fednode limits --blobs-max)")
            return await store(*given, **options)

        setattr(life.disk, way, stored)


def committed(life: Life, run: RunId) -> int:
    known = life.node.runs.known.get(run)
    return known.driver.machine.ledger.committed_round if known is not None and known.driver is not None else -1


async def part_of(life: Life, whose: Life, run: RunId) -> tuple[str, str]:
    seen = await life.node.service.run(run)
    (part,) = [each for each in seen["participants"] if each["node_id"] == whose.node.identity.node_id]
    return part["state"], part["reason"]


async def follower(ground: HostileGround, lives: list[Life], run: RunId) -> Life:
    """Who neither proposed the run nor aggregates, once the first round is committed."""
    await ground.settled(lambda: committed(lives[0], run) >= 1, "the first round")
    machine = lives[0].node.runs.known[run].driver.machine  # type: ignore[union-attr]
    return next(each for each in lives[1:] if each.node.identity.node_id != machine.election.aggregator)


async def items(life: Life) -> list[dict[str, Any]]:
    return [each for each in await life.node.service.inbox.items() if each["kind"] == "failed-run"]


@pytest.mark.parametrize("ways", [("receive_blob",), ("put_blob", "take_blob")])
def test_nobody_waits_for_a_node_without_room(
    ways: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """§8.7: whether it cannot store a checkpoint or its own update; and it is back by itself."""
    caplog.set_level(logging.INFO, "fednode.run")

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=400, nodes=3)
        without = await follower(ground, lives, run)
        quota = Quota(without, *ways)
        quota.refuses = True
        await ground.settled(lambda: quota.refused, "a refusal")
        before = committed(lives[0], run)
        await ground.settled(lambda: committed(lives[0], run) >= before + ROUNDS, "rounds", within_s=SOON_S)
        await trio.sleep(40)  # virtual time: longer than a training is put off
        state, reason = await part_of(without, without, run)
        assert state == "FAILED"
        assert reason.startswith("no room here: 101,652 bytes more would go over the quota")
        assert (await part_of(lives[0], without, run))[0] == "FAILED"
        assert "would go over the quota" in (await part_of(lives[0], without, run))[1]
        (told,) = await items(without)
        assert "fednode limits" in told["text"]
        assert quota.refused > 1
        said = [record.message for record in caplog.records if "would go over the quota" in record.message]
        assert sum("To fix: raise it (fednode limits --blobs-max)" in line for line in said) == 1
        assert sum("could not be obtained yet" in line for line in said) <= 1

        quota.refuses = False

        def takes_part() -> bool:
            participation = without.node.runs.known[run].driver.machine.participation  # type: ignore[union-attr]
            offer = participation.offer
            return offer is not None and offer[1].round > before + ROUNDS and participation.receipted

        await ground.settled(takes_part, "its return", within_s=SOON_S)
        assert (await part_of(without, without, run))[0] != "FAILED"
        assert (await part_of(lives[0], without, run))[0] != "FAILED"
        assert await items(without) == []
        alive(*lives)

    on_hostile_ground(tmp_path, test)


def test_nothing_is_waited_for_when_a_run_has_ended(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        (known,) = await ground.ended(await ground.propose(life, nodes=1, rounds=1), [life])
        known.chronicle.state("", "RUNNING", "")
        known.chronicle.note("round 1 waits for updates")
        assert known.chronicle.live.note
        known.chronicle.state("", "FINISHED", "")
        assert known.chronicle.live.note == ""
        known.chronicle.elected(Elected(9, None))
        assert known.chronicle.live.note == ""

    on_hostile_ground(tmp_path, test)
