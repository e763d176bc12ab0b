"""An aggregator whose disk has no room for the others' updates gives the reign up. docs/protocol.md §8.21."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from protocol.errors import Refused
from protocol.run.reign import Reign
from tracker.blobs.quota import QUOTA_CODE


def test_an_aggregator_without_room_lets_another_one_reign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.21. Those that have room go on, and people are told what was waited for."""
    said: list[str] = []
    say = Reign.say

    def noted(self: Reign, text: str) -> None:
        said.append(text)
        say(self, text)

    async def full(*asked: object, **options: object) -> Any:
        raise Refused(QUOTA_CODE, "it would go over the quota", remedy="raise it")

    monkeypatch.setattr(Reign, "say", noted)

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=4, nodes=3)

        def reigning() -> list[Life]:
            drivers = [(life, life.node.runs.known[run].driver) for life in lives if run in life.node.runs.known]
            reigns = [(life, driver.machine.reign) for life, driver in drivers if driver is not None]
            return [life for life, reign in reigns if reign is not None and reign.ledger.committed_round > 0]

        await ground.settled(reigning, "the first round")
        (without,) = reigning()
        for way in ("receive_blob", "put_blob", "take_blob"):
            monkeypatch.setattr(without.disk, way, full)
        began = trio.current_time()
        others = [life for life in lives if life is not without]
        for known in await ground.ended(run, others):
            assert known.driver is not None
            assert known.driver.machine.ledger.newest.outcome == "finished"
        assert trio.current_time() - began < 120, "nobody waits for a deadline"
        assert any("waits for room on the aggregator's disk: it would go over the quota" in text for text in said)

    on_hostile_ground(tmp_path, test)
