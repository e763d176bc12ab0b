"""What whole nodes tell of runs: their traffic over restarts, who is in them at once, and which of two a blob is of.

In virtual time, on simulated disks.
"""

from pathlib import Path

import pytest
from hostile_ground import HostileGround, on_hostile_ground

from node.api.views import peers_view
from node.network.bulk.bulk import TransferProgress
from protocol.keys import BlobId, NodeId


def test_the_traffic_of_a_run_is_told_after_a_restart_too(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=3, nodes=2)
        await ground.ended(run, lives)
        life = lives[0]
        await life.node.record.flush()
        before = await life.node.service.run(run)
        assert 0 < before["bytes_moved"] <= before["bytes_sent"] + before["bytes_received"]
        recorded = sum(each["bytes"] for each in await life.node.record.query("rounds", run_id=run))
        await ground.restart(life)
        after = await life.node.service.run(run)
        assert (after["bytes_moved"], after["bytes_sent"], after["bytes_received"]) == (recorded, 0, 0)
        assert recorded > 0

    on_hostile_ground(tmp_path, story)


def test_who_is_in_a_run_of_ours_is_shown_in_it_before_it_says_so_and_not_when_it_is_over(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=20, nodes=2)
        known = [life.node.runs.known for life in lives]
        await ground.settled(lambda: all(run in k and k[run].driver is not None for k in known), "the start")
        for life in lives:
            assert [peer["runs"] for peer in peers_view(life.node)] == [[run], [run]]
        await ground.ended(run, lives)
        for life in lives:
            assert [peer["runs"] for peer in peers_view(life.node)] == [[], []]

    on_hostile_ground(tmp_path, story)


def test_of_runs_that_share_a_blob_the_one_that_goes_on_is_named_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(ground: HostileGround) -> None:
        lives = await ground.group(2)
        first = await ground.propose(lives[0], rounds=1, nodes=2)
        await ground.ended(first, lives)
        second = await ground.propose(lives[0], rounds=50, nodes=2)
        known = [life.node.runs.known for life in lives]
        await ground.settled(lambda: all(second in k and k[second].driver is not None for k in known), "the start")
        for life, runs, direction in zip(lives, known, ("in", "out"), strict=True):
            ledgers = [runs[run].driver.machine.ledger for run in (first, second)]
            model = BlobId(ledgers[0].zero.checkpoint.model)
            assert model == ledgers[1].zero.checkpoint.model, "runs of one seed begin alike"
            going = TransferProgress(model, direction, NodeId("12D3peer"), 1, 2, 0.0, None, 0.0)  # type: ignore[arg-type]
            monkeypatch.setattr(life.node.bulk, "transfers", lambda going=going: [going])
            (told,) = life.node.service.transfers.views()
            assert (told["kind"], told["run_id"]) == ("checkpoint", second)

    on_hostile_ground(tmp_path, story)
