"""`run stop`, `run resume` and `run extend` on real node code, restarts of all nodes included."""

from pathlib import Path

import pytest
from hostile_ground import HostileGround, on_hostile_ground

from protocol.errors import Refused
from protocol.limits import RUN_ROUNDS_MAX


def test_a_stopped_run_is_resumed_after_all_nodes_were_shut_down(tmp_path: Path) -> None:
    """§8.14: from its newest checkpoint, and it ends with all its rounds."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        first = lives[0]
        run = await ground.propose(first, rounds=6, nodes=3)
        await ground.settled(lambda: run in first.node.runs.known, "the proposal")
        known = first.node.runs.known[run]
        await ground.settled(lambda: known.driver is not None, "the start")
        assert known.driver is not None
        driver = known.driver
        await ground.settled(lambda: driver.machine.ledger.committed_round >= 2, "two rounds")
        with pytest.raises(Refused, match="not stopped") as refused:
            await first.node.service.resume_run(run)
        assert "goes on by itself" in refused.value.remedy
        assert (await first.node.service.stop_run(run, "the night is over"))["asked"] is True
        assert (await first.node.service.stop_run(run, "too late"))["asked"] is False
        await ground.ended(run, lives)
        seen = await first.node.service.run(run)
        assert (seen["state"], seen["reason"]) == ("STOPPED", "the night is over")
        done, operations = seen["round"], len(first.node.groups.places[known.place.group].log)
        again = await first.node.service.stop_run(run, "too late")
        assert (again["asked"], again["state"], again["reason"]) == (False, "STOPPED", "the night is over")
        assert len(first.node.groups.places[known.place.group].log) == operations
        with pytest.raises(Refused, match="is stopped"):
            await first.node.service.extend_run(run, 2)
        for life in lives:
            await ground.restart(life)
        for life in lives:
            assert (await life.node.service.run(run))["state"] == "STOPPED"
        await first.node.service.resume_run(run)
        await ground.settled(lambda: not any(life.node.runs.known[run].is_over for life in lives), "the resumption")
        assert (await first.node.service.run(run))["state"] == "RUNNING"
        await ground.ended(run, lives)
        for life in lives:
            seen = await life.node.service.run(run)
            assert (seen["state"], seen["reason"]) == ("FINISHED", "")
            rounds = [row["round"] for row in await life.node.service.rounds(run)]
            assert len(rounds) == 6
            assert rounds == [number for number in range(1, 8) if number != done + 1]
            assert seen["round"] == seen["rounds"] == 7

    on_hostile_ground(tmp_path, test)


def test_a_finished_run_is_extended_and_who_only_looks_on_sees_it(tmp_path: Path) -> None:
    """§8.14."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        outsider = lives.pop()
        await outsider.node.service.set_policy([])
        run = await ground.propose(lives[0], rounds=2, nodes=3)
        await ground.settled(lambda: run in outsider.node.runs.known, "the proposal")
        await outsider.node.service.decline(run, "busy")
        await ground.ended(run, lives)
        await ground.settled(lambda: outsider.node.runs.known[run].is_over, "the outsider's news")
        with pytest.raises(Refused, match="not stopped") as refused:
            await lives[0].node.service.resume_run(run)
        assert "fednode run extend" in refused.value.remedy
        with pytest.raises(Refused, match=f"{RUN_ROUNDS_MAX} are the most"):
            await lives[0].node.service.extend_run(run, RUN_ROUNDS_MAX)
        late = await lives[0].node.service.stop_run(run, "too late")
        assert (late["asked"], late["state"]) == (False, "FINISHED")  # else nobody could extend it
        await lives[0].node.service.extend_run(run, 3)
        await ground.settled(lambda: not any(life.node.runs.known[run].is_over for life in lives), "the extension")
        assert (await lives[2].node.service.run(run))["state"] == "RUNNING"
        await ground.ended(run, lives)
        await ground.settled(lambda: outsider.node.runs.known[run].is_over, "the outsider's news")
        for life in (*lives, outsider):
            seen = await life.node.service.run(run)
            assert (seen["state"], seen["round"], seen["rounds"]) == ("FINISHED", 5, 5)

    on_hostile_ground(tmp_path, test)


def test_a_run_that_never_started_is_neither_resumed_nor_extended(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        run = await ground.propose(life, nodes=3)
        await ground.settled(lambda: run in life.node.runs.known, "the proposal")
        for ask in (life.node.service.resume_run(run), life.node.service.extend_run(run, 1)):
            with pytest.raises(Refused, match="has not started"):
                await ask

    on_hostile_ground(tmp_path, test)
