"""An owner's audit of committed rounds: agrees, differs, or says why it cannot be said. README, `fednode run audit`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground
from test_run_liars import Lie, wrong_choice, wrong_refusal, wrong_sum

from node.run.driver import RunDriver
from protocol.errors import Refused
from protocol.keys import BlobId, RunId
from protocol.run.checkpoint import open_offer
from protocol.run.events import Combine, Combined

ROUNDS = 3
MEMBERS = '[updates]\nreaders = "members"\n'
MOMENTUM = 'server_optimizer = "momentum"\nserver_learning_rate = 0.5'


async def ended_run(
    ground: HostileGround,
    lives: list[Life],
    *,
    audit: str = "none",
    extra: str = "",
    lie: Lie | None = None,
    text: str = CONFIGURATION,
) -> RunId:
    """A run that has ended everywhere. Where there is a `lie`, whoever aggregates tells it in the last round."""
    text = text.format(name="run", rounds=ROUNDS, nodes=len(lives), audit=audit, join_deadline_s=600.0)
    run = RunId((await lives[0].node.service.start_run(text + extra, None, None, {}))["run_id"])
    if lie is not None:
        await ground.settled(lambda: all(driver_of(life, run) for life in lives), "the start")
        for life in lives:
            teach(driver_of(life, run), lie)
    await ground.ended(run, lives)
    return run


def driver_of(life: Life, run: RunId) -> RunDriver | None:
    known = life.node.runs.known.get(run)
    return known.driver if known is not None else None


def teach(driver: RunDriver | None, lie: Lie) -> None:
    assert driver is not None
    honest = driver._do

    async def dishonest(wanted: object) -> object:
        is_last = isinstance(wanted, Combine) and wanted.round == ROUNDS
        return await (lie(driver, wanted) if is_last else honest(wanted))  # type: ignore[arg-type]

    driver._do = dishonest  # type: ignore[method-assign, assignment]


async def audited(life: Life, run: str, round_number: int | None = None) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = (await life.node.service.audits.look(run, round_number))["rounds"]
    return told


def on_ground(folder: Path, test: Callable[[HostileGround, list[Life]], Awaitable[None]]) -> None:
    async def main(ground: HostileGround) -> None:
        await test(ground, await ground.group(3))

    on_hostile_ground(folder, main)


@pytest.mark.parametrize("how", ["members", "audited", "momentum"])
def test_an_honest_round_agrees_and_older_ones_cannot_be_said(how: str, tmp_path: Path) -> None:
    async def test(ground: HostileGround, lives: list[Life]) -> None:
        text = (
            CONFIGURATION.replace("[aggregation]", f"[aggregation]\n{MOMENTUM}") if how == "momentum" else CONFIGURATION
        )
        extra, audit = ("", "full") if how == "audited" else (MEMBERS, "none")
        run = await ended_run(ground, lives, audit=audit, extra=extra, text=text)
        for life in lives:
            before = await held(ground, run)
            rounds = await audited(life, "run")
            assert [each["round"] for each in rounds] == [3, 2, 1]
            assert (rounds[0]["verdict"], rounds[0]["why"]) == ("agrees", "")
            assert (rounds[0]["updates_used"], rounds[0]["updates_refused"]) == (3, 0)
            assert {each["verdict"] for each in rounds[1:]} == {"unknown"}
            assert all("not to be had any more" in each["why"] for each in rounds[1:])
            assert await held(ground, run) == before, "what was fetched for the audit alone is deleted after it"
            assert (await audited(life, run, 3))[0]["verdict"] == "agrees"
            (first,) = await audited(life, run, 1)
            assert (first["verdict"], first["round"]) == ("unknown", 1)
            assert first["why"] == rounds[-1]["why"], "one cause has one wording, however it is asked for"

    on_ground(tmp_path, test)


async def held(ground: HostileGround, run: RunId) -> set[tuple[int, str]]:
    """Which of the last round's updates lie on which node."""
    found = set()
    for life in ground.lives:
        driver = driver_of(life, run)
        assert driver is not None
        offers = [open_offer(entry.offer).body for entry in driver.machine.ledger.newest.updates]
        found |= {(life.number, offer.update) for offer in offers if await life.disk.has_blob(BlobId(offer.update))}
    return found


async def another_model(driver: RunDriver, wanted: Combine) -> Combined:
    """All is said as it should be, but the model and its difference are those of fewer updates."""
    right = await driver._data.combine(wanted)
    wrong = await driver._data.combine(replace(wanted, offers=wanted.offers[:-1]))
    return replace(right, model=wrong.model, difference=wrong.difference)


LIES = [
    (wrong_sum, "is used with weight"),
    (wrong_refusal, "is refused as not-finite, not used with weight"),
    (wrong_choice, "is not-chosen, and should be looked at"),
    (another_model, "its model is another"),
]


@pytest.mark.parametrize(("lie", "why"), LIES)
def test_a_lie_that_nobody_looked_for_is_found_afterwards(lie: Lie, why: str, tmp_path: Path) -> None:
    async def test(ground: HostileGround, lives: list[Life]) -> None:
        run = await ended_run(ground, lives, extra=MEMBERS, lie=lie)
        for life in lives:
            (newest, *_) = await audited(life, run)
            assert (newest["round"], newest["verdict"]) == (ROUNDS, "differs")
            assert why in newest["why"], newest

    on_ground(tmp_path, test)


def test_where_the_manifest_lets_nobody_read_updates_it_cannot_be_said(tmp_path: Path) -> None:
    async def test(ground: HostileGround, lives: list[Life]) -> None:
        run = await ended_run(ground, lives)
        for life in lives:
            asked = life.node.network.counters.bytes_received  # type: ignore[attr-defined]
            (newest, *_) = await audited(life, run, ROUNDS)
            assert newest["verdict"] == "unknown"
            assert "gives them to the aggregator alone" in newest["why"]
            whole = await audited(life, run)
            assert {each["why"] for each in whole} == {newest["why"]}, "one cause has one wording"
            assert life.node.network.counters.bytes_received == asked  # type: ignore[attr-defined]

    on_ground(tmp_path, test)


def test_who_takes_no_part_and_rounds_that_are_not_are_refused(tmp_path: Path) -> None:
    async def test(ground: HostileGround, lives: list[Life]) -> None:
        await lives[2].node.service.set_policy([])
        run = await ended_run(ground, lives[:2], extra=MEMBERS)
        with pytest.raises(Refused, match="takes no part in the run"):
            await audited(lives[2], run)
        with pytest.raises(Refused, match="no round 9 that is committed"):
            await audited(lives[0], run, 9)

    on_ground(tmp_path, test)
