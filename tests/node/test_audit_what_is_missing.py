"""An audit that cannot have an update says so where the others were measured with it, and accuses nobody for it.

docs/protocol.md §8.18, §8.26.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hostile_ground import CONFIGURATION, HostileGround, on_hostile_ground

from node.run.driver import RunDriver
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId, RunId
from protocol.run.checkpoint import SET_ASIDE, Offer, checkpoint_name, open_offer
from protocol.run.events import Recompute

KRUM = 'rule = "krum"'
SCREENED = 'rule = "median"\nscreen_factor = 1.0'


def _hide(driver: RunDriver, hidden: Sequence[str]) -> None:
    """Those nodes' updates are not to be had any more, from anybody."""
    fetch = driver._data.fetch_update

    async def without(offer: Offer, sources: Sequence[NodeId], size: int) -> None:
        if offer.node in hidden:
            raise FednodeError("nobody has it", remedy="ask later")
        await fetch(offer, sources, size)

    driver._data.fetch_update = without  # type: ignore[method-assign]


@pytest.mark.parametrize("keys", [KRUM, SCREENED])
def test_who_cannot_have_what_the_others_were_measured_with_does_not_accuse(keys: str, tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        text = CONFIGURATION.format(rounds=2, nodes=4, name="run", join_deadline_s=600.0, audit="full")
        text = text.replace("[aggregation]", f"[aggregation]\n{keys}")
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        (known, *_) = await ground.ended(run, lives)
        assert known.driver is not None
        ledger, audit = known.driver.machine.ledger, known.driver._audit
        last = ledger.newest
        base = ledger.committed_before(last)
        assert base is not None
        wanted = Recompute(checkpoint_name(last), last, base, ())
        aside = [open_offer(entry.offer).body.node for entry in last.updates if entry.refused]
        assert aside
        assert await audit.recompute(wanted) == ""
        _hide(known.driver, aside[:1])
        assert await audit.recompute(wanted) is None

    on_hostile_ground(tmp_path, test)


def test_an_owners_audit_cannot_say_what_an_update_that_is_gone_decided(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        text = CONFIGURATION.format(rounds=2, nodes=4, name="run", join_deadline_s=600.0, audit="none")
        text = text.replace("[aggregation]", f"[aggregation]\n{KRUM}") + '[updates]\nreaders = "members"\n'
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            last = known.driver.machine.ledger.newest
            assert sorted(entry.refused for entry in last.updates) == ["", *[SET_ASIDE] * 3]
            for entry in last.updates:
                update = BlobId(open_offer(entry.offer).body.update)
                if entry.refused and await known.driver._disk.has_blob(update):
                    await known.driver._disk.delete_blob(update)
        for life in lives:
            (told,) = (await life.node.service.audits.look(run, 2))["rounds"]
            assert told["verdict"] == "unknown", told

    on_hostile_ground(tmp_path, test)
