"""Aggregators that lie about real sums: found out by recomputation, deposed, and the run goes on. §8.16, §8.18."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.api.service.service import LogsQuery
from node.run.driver import RunDriver
from protocol.keys import RunId
from protocol.run.checkpoint import UpdateEntry, open_offer
from protocol.run.events import Combine, Combined

Lie = Callable[[RunDriver, Combine], Awaitable[Combined]]


async def wrong_sum(driver: RunDriver, wanted: Combine) -> Combined:
    """Sums all updates but the last, and says that it is in the sum. Model and difference fit each other."""
    made = await driver._data.combine(replace(wanted, offers=wanted.offers[:-1]))
    entry = UpdateEntry(offer=wanted.offers[-1], weight=made.entries[0].weight, refused="", reason="")
    return replace(made, entries=(*made.entries, entry))


async def wrong_refusal(driver: RunDriver, wanted: Combine) -> Combined:
    """Leaves an update out, and says that it is not finite, which it is."""
    made = await driver._data.combine(replace(wanted, offers=wanted.offers[:-1]))
    entry = UpdateEntry(offer=wanted.offers[-1], weight=0, refused="not-finite", reason="a lie")
    return replace(made, entries=(*made.entries, entry))


async def wrong_choice(driver: RunDriver, wanted: Combine) -> Combined:
    """Says of an update that its node was not to train."""
    made = await driver._data.combine(replace(wanted, offers=wanted.offers[:-1]))
    entry = UpdateEntry(offer=wanted.offers[-1], weight=0, refused="not-chosen", reason="a lie")
    return replace(made, entries=(*made.entries, entry))


async def dropped(driver: RunDriver, wanted: Combine) -> Combined:
    """Leaves another's update out without a word."""
    others = tuple(
        raw for raw in wanted.offers if open_offer(raw).body.node == driver.machine.context.me
    )  # its own alone
    return await driver._data.combine(replace(wanted, offers=others))


async def lying(
    ground: HostileGround, audit: str, lie: Lie, *, nodes: int, rounds: int
) -> tuple[RunId, Life, list[Life]]:
    """A run whose first aggregator lies from its second round on; the run, the liar and the others."""
    lives = await ground.group(nodes)
    run = await ground.propose(lives[0], rounds=rounds, nodes=nodes, audit=audit)

    def aggregator() -> Life | None:
        for life in lives:
            known = life.node.runs.known.get(run)
            if known is not None and known.driver is not None and known.driver.machine.reign is not None:
                return life if known.driver.machine.ledger.committed_round >= 1 else None
        return None

    await ground.settled(lambda: aggregator() is not None, "the first round")
    liar = aggregator()
    assert liar is not None
    driver = liar.node.runs.known[run].driver
    assert driver is not None
    honest = driver._do

    async def dishonest(wanted: object) -> object:
        return await lie(driver, wanted) if isinstance(wanted, Combine) else await honest(wanted)  # type: ignore[arg-type]

    driver._do = dishonest  # type: ignore[method-assign, assignment]
    return run, liar, [life for life in lives if life is not liar]


@pytest.mark.parametrize("lie", [wrong_sum, wrong_refusal, wrong_choice, dropped])
def test_under_a_full_audit_a_lie_is_never_committed(lie: Lie, tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        run, liar, honest = await lying(ground, "full", lie, nodes=4, rounds=5)
        await ground.ended(run, honest)
        lied = liar.node.identity.node_id
        for life in honest:
            seen = await life.node.service.run(run)
            assert (seen["state"], seen["round"]) == ("FINISHED", 5)
            assert [entry["node_id"] for entry in seen["deposed"]] == [lied]
            makers = [row["aggregator"] for row in await life.node.service.rounds(run)]
            assert makers.count(lied) <= 2  # its honest rounds, before it began to lie
            logs = (await life.node.service.logs(run, LogsQuery())).lines
            assert any("lied:" in entry["message"] for entry in logs)
        alive(liar, *honest)

    on_hostile_ground(tmp_path, test)


def test_a_dropped_update_is_found_out_without_any_audit(tmp_path: Path) -> None:
    """§8.16: by the node whose receipted update it was."""

    async def test(ground: HostileGround) -> None:
        run, liar, honest = await lying(ground, "none", dropped, nodes=4, rounds=5)
        await ground.ended(run, honest)
        for life in honest:
            seen = await life.node.service.run(run)
            assert [entry["node_id"] for entry in seen["deposed"]] == [liar.node.identity.node_id]

    on_hostile_ground(tmp_path, test)


def test_an_honest_audited_run_keeps_one_round_of_updates(tmp_path: Path) -> None:
    """Nobody is accused, and what is audited no more is deleted."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=4, nodes=3, audit="full")
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            assert not known.driver.machine.context.deposed
            assert len(known.driver._data._kept) == 3

    on_hostile_ground(tmp_path, test)
