"""Trainers that offer what an aggregator must refuse: it is refused by name, people are told whose and why, the round
goes on, an auditor judges it alike, and nobody honest is accused. docs/protocol.md §8.11, §8.16 to §8.18."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from node.api.service.service import LogsQuery
from node.run.driver import RunDriver
from protocol.keys import BlobId, NodeId, RunId
from protocol.run.checkpoint import Offer, open_offer, sign_note
from protocol.run.events import RunEvent, Trained
from protocol.run.messages import OfferMessage, RunMessage
from protocol.wire import hash_of

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


# --- each kind by its name -------------------------------------------------------------------------------------------
async def with_values(driver: RunDriver, offer: Offer, *values: float) -> Offer:
    """The update with other values at its beginning."""
    update = bytearray(await driver._disk.read_blob(BlobId(offer.update)))
    update[: 4 * len(values)] = np.array(values, "<f4").tobytes()
    return offer.model_copy(update={"update": await driver._disk.put_blob(bytes(update))})


def values(*given: float) -> Trick:
    return lambda driver, offer: with_values(driver, offer, *given)


def said(**changes: object) -> Trick:
    async def trick(driver: RunDriver, offer: Offer) -> Offer:
        return offer.model_copy(update=changes)

    return trick


# What stands in the checkpoint, and so in everybody's record.
LISTED: list[tuple[str, Trick, str]] = [
    ("update-length", shorter, "fp32"),
    ("update-length", longer, "fp32"),
    ("update-length", said_wrong, "fp32"),
    ("update-length", said(update_bytes=2**62), "fp32"),
    ("wrong-codec", said(codec="int8"), "fp32"),
    ("no-samples", said(samples=0), "fp32"),
    ("samples-out-of-range", said(samples=2**50), "fp32"),
    ("update-not-finite", values(float("nan")), "fp32"),
    ("update-too-large", values(1e30), "fp32"),
    ("norm-too-large", values(1e6), "fp32"),
    ("malformed-code", values(-1.0, -1.0), "top10"),
]


@pytest.mark.parametrize(("code", "trick", "codec"), LISTED)
def test_each_bad_update_is_refused_by_name_and_the_round_goes_on(
    code: str, trick: Trick, codec: str, tmp_path: Path
) -> None:
    """Every node can say whose update was refused in which round, and why; its owner too."""

    async def main(ground: HostileGround) -> None:
        lives, run, culprit = await begun(ground, codec)
        honest = driver_of(culprit, run)._do

        async def dishonest(wanted: object) -> RunEvent | None:
            event = await honest(wanted)  # type: ignore[arg-type]
            return Trained(await trick(driver_of(culprit, run), event.offer)) if isinstance(event, Trained) else event

        driver_of(culprit, run)._do = dishonest  # type: ignore[method-assign, assignment]
        await ground.ended(run, lives)
        bad = culprit.node.identity.node_id
        for life in lives:
            assert driver_of(life, run).machine.ledger.newest.outcome == "finished"
            assert not driver_of(life, run).machine.context.deposed
            refused = await life.node.service.curves.updates(run, {**NO_FILTERS, "outcome": "refused"})
            assert refused, "the name is recorded"
            assert {(each["node_id"], each["reason"].partition(":")[0]) for each in refused} == {(bad, code)}
        (item,) = [each for each in await inbox(culprit) if each["kind"] == "refused-updates"]
        assert code in str(item)

    on_hostile_ground(tmp_path, main)


async def inbox(life: Life) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = await life.node.service.inbox.items()
    return items


NO_FILTERS: dict[str, Any] = {"after_round": None, "before_round": None, "node": None, "limit": 1000}


def driver_of(life: Life, run: RunId) -> RunDriver:
    driver = life.node.runs.known[run].driver
    assert driver is not None
    return driver


async def begun(ground: HostileGround, codec: str = "fp32") -> tuple[list[Life], RunId, Life]:
    """A run of four that has an aggregator, and a node that is not it."""
    lives = await ground.group(4)
    text = CONFIGURATION.format(name="run", rounds=3, nodes=4, audit="full", join_deadline_s=600.0)
    text = text.replace('codec = "fp32"', f'codec = "{codec}"\nnorm_max = 100.0')
    run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])

    def reigns(life: Life) -> bool:
        known = life.node.runs.known.get(run)
        return known is not None and known.driver is not None and known.driver.machine.reign is not None

    await ground.settled(lambda: any(map(reigns, lives)), "an aggregator")
    return lives, run, next(life for life in lives if not reigns(life))


Twist = Callable[[RunDriver, bytes], list[bytes]]  # offers to send in place of a signed one


def resigned(**changes: object) -> Twist:
    """The offer itself, then another that is rightly signed."""

    def twist(driver: RunDriver, raw: bytes) -> list[bytes]:
        other = open_offer(raw).body.model_copy(update=changes)
        return [raw, sign_note(driver.machine.context.key, other)]

    return twist


def before_it(**changes: object) -> Twist:
    return lambda driver, raw: resigned(**changes)(driver, raw)[::-1]


# What is no part of the round, or comes before what is: the aggregator's log has the name.
UNLISTED: list[tuple[str, Twist]] = [
    ("wrong-round", before_it(round=7)),
    ("too-late", before_it(round=0)),
    ("second-update", resigned(update=hash_of(b"another"))),
    ("wrong-sender", resigned(run=hash_of(b"another run"))),
    ("malformed-offer", lambda driver, raw: [b"junk" + raw, raw]),
    ("malformed-offer", lambda driver, raw: [raw[:-1] + bytes([raw[-1] ^ 1]), raw]),
]


@pytest.mark.parametrize(("name", "twist"), UNLISTED)
def test_what_nobody_asked_for_is_turned_away_by_name(name: str, twist: Twist, tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        lives, run, culprit = await begun(ground)
        driver = driver_of(culprit, run)
        honest = driver._send

        def send(peer: NodeId, message: RunMessage) -> None:
            if not isinstance(message, OfferMessage):
                return honest(peer, message)
            for raw in twist(driver, message.offer):
                honest(peer, OfferMessage(run=run, offer=raw))
            return None

        driver._send = send
        await ground.ended(run, lives)
        told: list[str] = []
        for life in lives:
            assert driver_of(life, run).machine.ledger.newest.outcome == "finished"
            assert not driver_of(life, run).machine.context.deposed
            assert len(driver_of(life, run).machine.ledger.newest.updates) == 4, "the good one counts"
            told += [line["message"] for line in (await life.node.service.logs(run, LogsQuery())).lines]
        assert any(f"({name})" in line and "node-" in line for line in told), told

    on_hostile_ground(tmp_path, main)


def test_an_update_of_another_base_is_refused_by_name(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        lives, run, culprit = await begun(ground)
        driver = driver_of(culprit, run)
        honest, other = driver._send, resigned(base=hash_of(b"another"))

        def send(peer: NodeId, message: RunMessage) -> None:
            if isinstance(message, OfferMessage):
                message = OfferMessage(run=run, offer=other(driver, message.offer)[1])
            honest(peer, message)

        driver._send = send
        await ground.ended(run, lives)
        for life in lives:
            refused = await life.node.service.curves.updates(run, {**NO_FILTERS, "outcome": "refused"})
            assert {(each["node_name"], each["reason"].partition(":")[0]) for each in refused} == {
                (f"node-{culprit.number}", "wrong-base")
            }

    on_hostile_ground(tmp_path, main)
