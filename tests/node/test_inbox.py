"""The inbox of real nodes in a simulated group: what comes in, what goes out of it, and what outlives a restart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground
from test_run_liars import lying, wrong_sum

from node.api.inbox.items import DISK_LOW_BYTES
from node.api.inbox.seen import SEEN_FILE, SEEN_MAX, SeenItems
from node.api.service.service import NotFound
from protocol.errors import Refused
from simulations.world.disk import SimulatedDisk
from tracker.tables.rows import RoundRow

Json = dict[str, Any]


async def of_kind(life: Life, kind: str) -> list[Json]:
    return [each for each in await life.node.service.inbox.items() if each["kind"] == kind]


async def until_there(life: Life, kind: str) -> Json:
    """The first item of a kind, once there is one."""
    with trio.fail_after(3600):
        while not (found := await of_kind(life, kind)):
            await trio.sleep(1)  # virtual time passes
    return found[0]


def test_a_proposal_waits_until_it_is_answered(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        asked = lives[2]
        await asked.node.service.set_policy([])
        first = await ground.propose(lives[0], name="first", nodes=2)
        await ground.ended(first, lives[:2])
        await ground.settled(lambda: asked.node.runs.known[first].is_over, "its end for who looks on")
        second = await ground.propose(lives[0], name="second", rounds=300, nodes=2)
        await ground.settled(lambda: second in asked.node.runs.known, "the second run")
        waiting = await of_kind(asked, "proposal")
        assert [each["run_id"] for each in waiting] == [second]  # the first is over: nobody can accept it any more
        assert "node-0 proposes it to hostile: it runs the built-in task digits" in waiting[0]["text"]
        with pytest.raises(Refused, match="looking at it is not enough"):
            await asked.node.service.inbox.seen(waiting[0]["id"])
        await asked.node.service.accept(second, None)
        assert await of_kind(asked, "proposal") == []

    on_hostile_ground(tmp_path, test)


def test_a_proposals_page_says_who_what_and_what_is_new(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        await ground.propose(lives[0], name="first", rounds=2, nodes=2)
        await trio.sleep(5)  # virtual time passes
        run = await ground.propose(lives[0], name="second", rounds=5, nodes=2)
        await ground.settled(lambda: run in lives[1].node.runs.known, "the second run")
        page = await lives[1].node.service.inbox.proposal("second")
        assert (page["run_id"], page["proposer_name"], page["proposer_member_name"]) == (run, "node-0", "node-0")
        assert page["configuration"]["training.rounds"] == 5
        assert (page["code"]["kind"], page["code"]["here"]) == ("built-in", True)
        assert page["data"] | {"what": ""} == {"wanted": "digits", "needed": True, "here": ["digits"], "what": ""}
        assert (page["previous"]["name"], page["previous"]["decision"]) == ("first", "accepted")
        assert page["differences"] == [{"key": "training.rounds", "before": 2, "now": 5}]
        with pytest.raises(NotFound):
            await lives[1].node.service.inbox.proposal("third")

    on_hostile_ground(tmp_path, test)


def test_who_came_in_is_told_until_it_is_seen_and_never_again(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        first, last = lives[0], lives[2]
        came = await of_kind(first, "joiner")
        assert sorted(each["title"] for each in came) == [f"node-{n} came into hostile as member" for n in (1, 2)]
        assert all("node-0 has admitted" in each["text"] for each in came)
        assert await of_kind(last, "joiner") == []  # these were in the group when it came
        await first.node.service.inbox.seen(came[0]["id"])
        with pytest.raises(NotFound):
            await first.node.service.inbox.seen(came[0]["id"])
        await ground.restart(first)
        assert await of_kind(first, "joiner") == [came[1]]
        await first.node.service.inbox.seen(came[1]["id"][:-3])  # the beginning of an id does
        assert await of_kind(first, "joiner") == []

    on_hostile_ground(tmp_path, test)


def test_who_watches_is_told_when_something_comes_in(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        watched = lives[1]
        await watched.node.service.set_policy([])
        told: list[list[Json]] = []

        async def watch() -> None:
            async for batch in watched.node.service.events():
                for event in batch:
                    if event["type"] in ("snapshot", "inbox"):
                        told.append(event["inbox"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await ground.settled(lambda: told, "the snapshot")
            assert told[0] == []
            run = await ground.propose(lives[0], nodes=2)
            await ground.settled(lambda: any(each for each in told), "the proposal")
            assert told[-1][0]["run_id"] == run
            await watched.node.service.decline(run, "busy")
            await ground.settled(lambda: told[-1] == [], "its end")
            before = len(told)
            await trio.sleep(120)  # virtual time passes
            assert len(told) == before  # nothing new, nothing told
            nursery.cancel_scope.cancel()

    on_hostile_ground(tmp_path, test)


def test_refused_updates_are_told_to_whom_they_concern(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], nodes=3)
        await ground.ended(run, lives)
        ids = [life.node.identity.node_id for life in lives]
        refused = f'[{{"node_id": "{ids[1]}", "reason": "norm: 41 is over 10"}}]'
        now = lives[0].node.now()
        rounds = [RoundRow(run, at, 1, ids[0], "c", "m", now + at, 2, refused, 10, 1.0) for at in (50, 51)]
        lives[0].node.record.add(*rounds)
        await lives[0].node.record.flush()
        (ours,) = await of_kind(lives[1], "refused-updates")
        assert "Ours were refused 2 times in run, last by node-0 in round 51: norm: 41 is over 10" in ours["text"]
        (theirs,) = await of_kind(lives[0], "refused-updates")
        assert "node-1 was refused 2 times in run, last by us" in theirs["text"]
        assert await of_kind(lives[2], "refused-updates") == []

    on_hostile_ground(tmp_path, test)


def test_a_lying_aggregator_is_told(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        run, liar, honest = await lying(ground, "full", wrong_sum, nodes=4, rounds=3)
        await ground.ended(run, honest)
        for life in honest:
            (told,) = await of_kind(life, "failed-audit")
            assert (told["run_id"], told["node_id"]) == (run, liar.node.identity.node_id)
            assert told["title"] == f"{liar.node.identity.name} lied as aggregator of run"
            assert told["time"]

    on_hostile_ground(tmp_path, test)


def test_a_run_that_failed_is_told_to_whom_it_belongs(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        await lives[2].node.service.set_policy([])
        run = await ground.propose(lives[0], name="hopeless", nodes=3, join_deadline_s=20.0)
        told = await until_there(lives[0], "failed-run")
        assert told["run_id"] == run
        assert told["title"] == "Run hopeless has failed"
        assert await of_kind(lives[2], "proposal") == []  # it is over

    on_hostile_ground(tmp_path, test)


def test_a_run_without_its_majority_is_told_after_a_while(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=100_000, nodes=2)
        known: Callable[[Life], Any] = lambda life: life.node.runs.known.get(run)  # noqa: E731
        await ground.settled(lambda: known(lives[0]) and known(lives[0]).driver, "the start")
        await ground.settled(lambda: known(lives[0]).driver.machine.ledger.committed_round >= 1, "the first round")
        lives[1].scope.cancel()
        told = await until_there(lives[0], "paused-run")
        assert told["title"] == "Run run does not go on"
        await ground.restart(lives[1])
        with trio.fail_after(3600):
            while await of_kind(lives[0], "paused-run"):
                await trio.sleep(1)  # virtual time passes

    on_hostile_ground(tmp_path, test)


def test_a_full_disk_is_told_and_comes_back_when_it_is_fuller(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        roomy = life.node.capacity()
        assert await of_kind(life, "low-disk") == []
        life.node.capacity = lambda: roomy.model_copy(update={"disk_free_bytes": DISK_LOW_BYTES - 1})
        (told,) = await of_kind(life, "low-disk")
        await trio.sleep(60)  # virtual time passes
        assert await of_kind(life, "low-disk") == [told]
        await life.node.service.inbox.seen(told["id"])
        assert await of_kind(life, "low-disk") == []
        life.node.capacity = lambda: roomy.model_copy(update={"disk_free_bytes": DISK_LOW_BYTES // 5})
        assert len(await of_kind(life, "low-disk")) == 1

    on_hostile_ground(tmp_path, test)


# --- what was seen -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("raw", [b"{", b'{"a": 1}', b"[1, 2]", b"\xff\xfe"])
def test_a_damaged_file_is_begun_anew_with_a_warning(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        disk = SimulatedDisk()
        await disk.write(SEEN_FILE, raw)
        seen = SeenItems(disk)
        assert await seen.load() == frozenset()
        assert "is begun anew" in caplog.text
        await seen.add("a")
        assert await SeenItems(disk).load() == {"a"}

    trio.run(main)


def test_the_file_forgets_the_oldest() -> None:
    async def main() -> None:
        disk = SimulatedDisk()
        seen = SeenItems(disk)
        for number in range(SEEN_MAX + 3):
            await seen.add(str(number))
        kept = await SeenItems(disk).load()
        assert len(kept) == SEEN_MAX
        assert "2" not in kept
        assert "3" in kept

    trio.run(main)
