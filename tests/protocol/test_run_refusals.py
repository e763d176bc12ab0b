"""Whose update is refused is told of it by the aggregator at once. docs/protocol.md §8.30."""

from typing import Any

import msgpack
import pytest
from run_victims import NODES, OUTSIDER, Gatherer, Victim, ack, commits, signed_offer
from run_world import IDS, KEYS, RUN, Faults, World

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.checkpoint import Receipt, checkpoint_name, open_offer, sign_note
from protocol.run.events import (
    Collect,
    Collected,
    Misbehaved,
    ParticipantState,
    Persist,
    Received,
    RunOutput,
    Send,
    Trained,
    TrainingFailed,
)
from protocol.run.gathering import Gathering
from protocol.run.messages import Heartbeat, OfferMessage, ReceiptMessage, RefusalMessage, RunMessage
from protocol.run.refusals import TOLD_AT_ONCE, Refused
from protocol.wire import hash_of, pack, unpack

CODE, REASON = "update-not-finite", "its tensor 'w' holds a NaN or an infinity"
WORDS = f"update refused: {REASON} ({CODE})"


def sent(outputs: list[RunOutput], kind: type[RunMessage]) -> list[tuple[NodeId, Any]]:
    return [
        (output.peer, output.message)
        for output in outputs
        if isinstance(output, Send) and isinstance(output.message, kind)
    ]


def told(outputs: list[RunOutput], node: NodeId) -> list[tuple[str, str]]:
    return [(each.state, each.reason) for each in outputs if isinstance(each, ParticipantState) and each.node == node]


# --- the aggregator ------------------------------------------------------------------------------------------------
def refused(gatherer: Gatherer, index: int, raw: bytes, reason: str = REASON) -> list[RunOutput]:
    """The update of this offer was fetched, and is refused."""
    (collect,) = [output for output in gatherer.offer(index, raw) if isinstance(output, Collect)]
    return gatherer.machine.step(Collected(collect.name, CODE, reason), gatherer.now)


def test_its_node_is_told_of_a_refusal_as_often_as_it_offers_the_update() -> None:
    """§8.30: people are told once."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    raw = gatherer.good(first)
    outputs = refused(gatherer, first, raw)
    term = gatherer.machine.election.term
    message = RefusalMessage(run=RUN, term=term, offer=hash_of(raw), code=CODE, reason=REASON)
    assert sent(outputs, RefusalMessage) == [(IDS[first], message)]
    assert told(outputs, IDS[first]) == [("WAITING", WORDS)]
    for _ in range(3):
        again = gatherer.offer(first, raw)
        assert sent(again, RefusalMessage) == [(IDS[first], message)]
        assert told(again, IDS[first]) == []


@pytest.mark.parametrize(
    ("code", "changes"), [("wrong-base", {"base": hash_of(b"another")}), ("no-samples", {"samples": 0})]
)
def test_what_an_offer_breaks_by_itself_is_told(code: str, changes: dict[str, Any]) -> None:
    """§8.30."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    for outputs in [gatherer.offer(first, gatherer.good(first, **changes)) for _ in range(2)]:
        assert [(peer, message.code) for peer, message in sent(outputs, RefusalMessage)] == [(IDS[first], code)]


def test_what_is_too_long_for_a_checkpoint_is_told_its_node() -> None:
    """§8.30: no checkpoint ever would, but its node is in the round."""
    victim = Victim()
    crowd = frozenset([IDS[1], *(NodeId(f"node {number}") for number in range(4095))])
    round_ = Gathering(RUN, victim.committed.checkpoint.round + 1, victim.committed, crowd, 9.0)
    metrics = {f"{number} {'x' * 70}": 1.0 for number in range(64)}
    raw = signed_offer(1, round_.round, victim.committed.name, metrics=metrics)
    for is_new in (True, False):
        answer = round_.on_offer(IDS[1], raw)
        assert isinstance(answer, Refused)
        assert answer.is_new is is_new
        message = answer.message(RUN, 1)
        assert message is not None
        assert message.code == "offer-too-long"


@pytest.mark.parametrize("changes", [{"round": 0}, {"round": 7}])
def test_what_nobody_asked_for_is_not_told(changes: dict[str, Any]) -> None:
    """§8.30: people hear of it where it came, once; who is behind hears of the commit."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    outputs = gatherer.offer(first, gatherer.good(first, **changes))
    assert [state for state, _ in told(outputs, IDS[first])] == ["WAITING"]
    assert not sent(outputs, RefusalMessage)
    again = gatherer.offer(first, gatherer.good(first, **changes))
    assert not told(again, IDS[first])
    assert not sent(again, RefusalMessage)


def test_who_does_not_train_or_is_a_stranger_is_told_nothing() -> None:
    """§8.30."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    assert gatherer.machine.reign is not None
    assert gatherer.machine.reign.gathering is not None
    gatherer.machine.reign.gathering.trainers -= {IDS[first]}
    for index in (first, OUTSIDER):
        assert not sent(gatherer.offer(index, gatherer.good(index, samples=0)), RefusalMessage)


def test_a_refusal_is_cut_and_cleaned() -> None:
    """§8.30: whatever a reason holds, it goes over the wire, and is fit for a terminal."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    outputs = refused(gatherer, first, gatherer.good(first), "x\x1b[2J\u202e\n" + "y" * 9_000)
    ((_, message),) = sent(outputs, RefusalMessage)
    assert unpack(RunMessage, pack(message), FRAME_BYTES_MAX) == message  # type: ignore[arg-type]
    assert len(message.reason) == 500
    assert not {"\x1b", "\u202e", "\n"} & set(message.reason)


def test_an_aggregator_refuses_its_own_update_once() -> None:
    """§8.30: it is its own node, and people are told once."""
    gatherer = Gatherer()
    raw = open_offer(gatherer.good(gatherer.me)).body
    outputs = gatherer.machine.step(Trained(raw), gatherer.now)
    (collect,) = [output for output in outputs if isinstance(output, Collect)]
    outputs = gatherer.machine.step(Collected(collect.name, CODE, REASON), gatherer.now)
    assert told(outputs, IDS[gatherer.me]) == [("WAITING", WORDS)]
    assert not sent(outputs, RefusalMessage)


# --- its node ------------------------------------------------------------------------------------------------------
class Offerer(Victim):
    """A node that has just offered its update to the aggregator of term 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        number = self.committed.checkpoint.round + 1
        offer = open_offer(signed_offer(self.me, number, self.committed.name)).body
        self.peer = IDS[self.aggregator]
        ((peer, message),) = sent(self.step(Trained(offer)), OfferMessage)
        assert peer == self.peer
        self.raw = message.offer

    def hears(self, by: NodeId | None = None, **changes: Any) -> list[RunOutput]:
        """A refusal comes, by the aggregator or another."""
        body = {"term": 1, "offer": hash_of(self.raw), "code": CODE, "reason": REASON, **changes}
        return self.step(Received(by or self.peer, RefusalMessage(run=RUN, **body)))

    def beat(self, term: int = 1, by: NodeId | None = None) -> list[RunOutput]:
        committed = self.committed
        number = committed.checkpoint.round
        return self.step(
            Received(
                by or self.peer,
                Heartbeat(
                    run=RUN, term=term, committed_round=number, committed=committed.name, opened=True, states="WWWW"
                ),
            )
        )


def test_a_node_tells_people_of_its_refusal_once() -> None:
    """§8.30: however often it comes."""
    offerer = Offerer()
    assert told(offerer.hears(), IDS[offerer.me]) == [("WAITING", WORDS)]
    for changes in ({}, {"reason": "another"}, {"code": "norm-too-large"}):
        assert offerer.hears(**changes) == []


def test_nothing_that_a_node_does_follows_from_a_refusal() -> None:
    """§8.30: what is durable and what is offered stay as they were."""
    offerer, twin = Offerer(), Offerer()
    outputs = offerer.hears()
    assert not [output for output in outputs if isinstance(output, Persist | Send)]
    assert sent(offerer.beat(), OfferMessage) == sent(twin.beat(), OfferMessage)
    assert sent(offerer.beat(), OfferMessage)
    assert offerer.journal == twin.journal


@pytest.mark.parametrize(
    "changes",
    [
        {"by": IDS[OUTSIDER]},
        {"by": "another voter"},
        {"term": 0},
        {"term": 2},
        {"offer": hash_of(b"another")},
    ],
)
def test_a_refusal_by_another_or_of_another_offer_is_not_believed(changes: dict[str, Any]) -> None:
    """§8.30."""
    offerer = Offerer()
    if changes.get("by") == "another voter":
        changes = {"by": next(node for node in IDS[:NODES] if node not in (offerer.peer, IDS[offerer.me]))}
    assert offerer.hears(**changes) == []
    assert told(offerer.hears(), IDS[offerer.me]) == [("WAITING", WORDS)]


def test_an_unknown_name_is_dropped() -> None:
    """§8.30: and so is the name of what is found out beside the others, or was not asked for."""
    offerer = Offerer()
    for code in ("no-such-name", "set-aside", "norm-outlier", "too-late", "not-chosen", "no-room"):
        assert code not in TOLD_AT_ONCE
        assert [type(output) for output in offerer.hears(code=code)] == [Misbehaved]
    assert told(offerer.hears(), IDS[offerer.me]) == [("WAITING", WORDS)]


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "x" * 501},
        {"reason": "\x1b[2J"},
        {"reason": "two\nlines"},
        {"reason": "\u202eturned"},
        {"code": "x" * 20 + "-" + "y" * 20},
        {"code": "UPPER-case"},
        {"code": "two words"},
        {"code": "update-not-finite\n"},
        {"code": ""},
        {"offer": "no hash"},
        {"term": -1},
        {"more": 1},
    ],
)
def test_a_malformed_refusal_is_refused(changes: dict[str, Any]) -> None:
    """§8.30, §1.2."""
    good = {"kind": "refusal", "run": RUN, "term": 1, "offer": hash_of(b"x"), "code": CODE, "reason": REASON}
    unpack(RunMessage, pack(RefusalMessage(**good)), FRAME_BYTES_MAX)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError):
        unpack(RunMessage, msgpack.packb(good | changes), FRAME_BYTES_MAX)  # type: ignore[arg-type]


def test_a_receipt_takes_a_refusal_back_and_is_not_taken_back_itself() -> None:
    """§8.30: who gave a receipt owes an account of the update (§8.16), whatever it says after it."""
    offerer = Offerer()
    offerer.hears()
    number = offerer.committed.checkpoint.round + 1
    receipt = Receipt(run=RUN, term=1, round=number, node=IDS[offerer.me], offer=hash_of(offerer.raw))
    signed = sign_note(KEYS[offerer.aggregator], receipt)
    outputs = offerer.step(Received(offerer.peer, ReceiptMessage(run=RUN, receipt=signed)))
    assert told(outputs, IDS[offerer.me]) == [("WAITING", "")]
    assert offerer.hears() == []


def test_what_is_said_again_in_a_new_term_is_told_once() -> None:
    """§8.30: unless in other words."""
    offerer = Offerer()
    offerer.hears()
    offerer.now += 60.0
    heir = next(node for node in IDS[:NODES] if node not in (offerer.peer, IDS[offerer.me]))
    offerer.beat(2, heir)
    assert offerer.hears(term=1) == [], "the last aggregator is not believed any more"
    assert offerer.hears(term=2, by=heir) == []
    offerer.now += 60.0
    offerer.beat(3)
    assert told(offerer.hears(term=3, reason="another"), IDS[offerer.me]) == [
        ("WAITING", f"update refused: another ({CODE})")
    ]


def test_a_refusal_is_over_with_its_round() -> None:
    """§8.30: the checkpoint has the word then; and what comes after it is of the past."""
    offerer = Offerer()
    offerer.hears()
    checkpoint = offerer.next_checkpoint()
    name = checkpoint_name(checkpoint)
    assert commits(offerer, checkpoint, tuple(ack(index, checkpoint.round, name) for index in range(3)))
    assert offerer.machine.participation.letter == "T"
    assert offerer.hears() == []


def test_who_was_restarted_is_told_anew() -> None:
    """§8.30: it offers again (§8.8), and what it showed is not what it shows now."""
    offerer = Offerer()
    offerer.hears()
    offerer.restart()
    assert offerer.machine.participation.letter == "U"
    assert sent(offerer.beat(), OfferMessage)
    assert told(offerer.hears(), IDS[offerer.me]) == [("WAITING", WORDS)]


def test_a_node_that_failed_says_so_whatever_it_is_told() -> None:
    """§8.30, §8.7: it is not waited for because it said that it failed."""
    offerer = Offerer()
    offerer.step(TrainingFailed(offerer.committed.checkpoint.round + 1, "no room here: it is full", for_good=False))
    assert offerer.hears() == []
    assert offerer.machine.participation.letter == "X"


# --- all of them ---------------------------------------------------------------------------------------------------
LOSSY = Faults(loss=0.4, repeat=0.3, delay_s=(0.01, 0.8), late=0.1, until_s=1e9)


@pytest.mark.parametrize("seed", range(6))
def test_where_all_are_refused_each_knows_why(seed: int) -> None:
    """§8.30: over a network that loses, repeats and reorders; nothing is ever committed that would tell it."""
    world = World(seed, 5, faults=LOSSY)
    world.refuses = {index: (CODE, f"that of {index} is no number") for index in range(5)}
    world.run(120.0, until_ended=False)
    assert max(world.committed) == 0
    expected = [(index, f"update refused: that of {index} is no number ({CODE})") for index in range(5)]
    assert sorted(world.own_reasons) == expected, "each once"
    assert not world.misbehaved


@pytest.mark.parametrize("seed", range(3))
def test_one_refused_node_is_told_in_each_round(seed: int) -> None:
    """§8.30: and the run goes on to its end, as it does when nothing is told."""
    world = World(seed, 4, rounds=4, faults=Faults(loss=0.1, repeat=0.2, delay_s=(0.01, 0.3), until_s=40.0))
    world.refuses = {3: (CODE, REASON)}
    world.run(400.0)
    world.check_ended("finished")
    assert {(index, reason) for index, reason in world.own_reasons} == {(3, WORDS)}
    assert 1 <= len(world.own_reasons) <= 4
