from pathlib import Path
import pytest, trio
from dataclasses import replace
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground
from protocol.keys import BlobId, RunId
from protocol.run_events import *
from protocol.wire import hash_of


def test_late_samples(tmp_path: Path) -> None:
    """a late update of 2^49 samples: refused by the aggregator, sound by halves to the auditors."""
    async def main(ground):
        lives = await ground.group(4)
        text = CONFIGURATION.format(name="run", rounds=6, nodes=4, audit="full", join_deadline_s=600.0)
        text += '[round]\nlate = "use"\ndeadline_s = 30.0\nfraction = 1.0\nupdates_min = 1\n'
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        await ground.settled(lambda: any(l.node.runs.known.get(run) and l.node.runs.known[run].driver and l.node.runs.known[run].driver.machine.reign and l.node.runs.known[run].driver.machine.ledger.committed_round >= 0 for l in lives), "agg")
        agg = next(l for l in lives if l.node.runs.known[run].driver.machine.reign)
        culprit = next(l for l in lives if l is not agg)
        driver = culprit.node.runs.known[run].driver
        honest = driver._do
        async def dishonest(wanted):
            event = await honest(wanted)
            if isinstance(event, Trained):
                await trio.sleep(40)
                return Trained(event.offer.model_copy(update={"samples": 2**49}))
            return event
        driver._do = dishonest
        for known in await ground.ended(run, lives):
            m = known.driver.machine
            print(m.ledger.newest.outcome, m.ledger.committed_round)
            assert not m.context.deposed, m.context.deposed
    on_hostile_ground(tmp_path, main)


@pytest.mark.parametrize("restart", [False, True])
def test_updates_leak_and_restart(tmp_path: Path, restart) -> None:
    async def main(ground):
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=6, nodes=3, audit="full")
        def r(l):
            k = l.node.runs.known.get(run)
            return k.driver.machine.ledger.committed_round if k and k.driver else -1
        for at in (1, 2, 3, 4):
            await ground.settled(lambda: r(lives[2]) >= at, "x")
            if restart:
                await ground.restart(lives[2])
        await ground.ended(run, lives)
        for l in lives:
            print("BLOBS", len(l.disk._blobs))
    on_hostile_ground(tmp_path, main)
