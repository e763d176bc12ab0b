"""Lying aggregators are found out and deposed; honest ones never. docs/protocol.md §8.12, §8.16 to §8.18.

That no honest node is ever accused is checked by the world itself, in every test that plays a run.
"""

from typing import Any

import pytest
from run_victims import OUTSIDER, Gatherer, Victim, collected, signed_offer
from run_world import IDS, KEYS, RUN, Faults, World, play, ready_note

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.run.checkpoint import Checkpoint, Issue, Receipt, UpdateEntry, checkpoint_name, sign_note
from protocol.run.events import Evidence, Misbehaved, Obtained, Received, Recompute, Recomputed, Send
from protocol.run.ledger import Held
from protocol.run.machine import RunMachine
from protocol.run.messages import (
    Accusation,
    Acknowledgement,
    AskCommit,
    Heartbeat,
    PreVoteRequest,
    Proposal,
    ReadyMessage,
    VoteRequest,
)
from protocol.run.proofs import check_proof
from protocol.run.voters import auditors_of
from protocol.wire import hash_of

FAULTS = Faults(loss=0.05, repeat=0.05, crash_rate_per_s=0.01, cut_rate_per_s=0.01, crash_at_outputs=True, until_s=60)
DEEDS = ("wrong-result", "dropped-update", "two-checkpoints")


def lying_world(
    seed: int, lie: str, audit: str, *, nodes: int = 5, rounds: int = 6, faults: Faults | None = None
) -> World:
    """The first aggregator lies whenever it aggregates."""
    world = World(seed, nodes, rounds=rounds, faults=faults, audit=audit)
    first = world.nodes[0].machine.context.voters[0]  # type: ignore[union-attr]
    world.liars[IDS.index(first)] = lie
    return world


def deposed_by(world: World) -> list[set[str]]:
    return [set(node.machine.context.deposed) for node in world.nodes if node.machine is not None]


@pytest.mark.parametrize("lie", DEEDS)
def test_a_lie_deposes_and_the_run_goes_on(lie: str) -> None:
    """§8.16: everybody has the proof, another aggregates, and the liar is in the roster no more."""
    world = lying_world(1, lie, "full")
    world.run(300.0, until_ended=False)
    (liar,) = world.liars
    honest = [node for node in world.nodes if node.index != liar]
    assert all(node.ended == "finished" for node in honest)
    for node in honest:
        assert node.machine is not None
        assert set(node.machine.context.deposed) == {IDS[liar]}
        assert IDS[liar] not in node.machine.ledger.roster()
    assert all(reign != IDS[liar] for term, reign in world.reigns.items() if term > 2)


@pytest.mark.parametrize("seed", range(15))
def test_under_a_full_audit_no_wrong_result_is_ever_committed(seed: int) -> None:
    """§8.18: under loss, crashes and cuts too; and the run finishes."""
    world = lying_world(seed, "wrong-result", "full", faults=FAULTS)
    world.run(500.0, until_ended=False)
    (liar,) = world.liars
    assert all(node.ended == "finished" for node in world.nodes if node.index != liar)
    for node in world.nodes:
        committed = node.machine.ledger.committed if node.machine else None
        assert committed is None or committed.checkpoint.maker != IDS[liar]


def test_under_a_spot_audit_who_lies_every_time_is_caught() -> None:
    """§8.18: a lie may be committed before it is proven; then it stands, and its maker is deposed all the same."""
    caught = 0
    for seed in range(20):
        world = lying_world(seed, "wrong-result", "spot", nodes=7, rounds=8)
        world.run(500.0, until_ended=False)
        (liar,) = world.liars
        honest = [node for node in world.nodes if node.index != liar]
        assert all(node.ended == "finished" for node in honest), f"seed {seed}"
        caught += all(IDS[liar] in node.machine.context.deposed for node in honest if node.machine)
    assert caught == 20


@pytest.mark.parametrize("audit", ["spot", "full"])
def test_an_audit_accuses_nobody_honest_and_costs_no_commit(audit: str) -> None:
    for seed in range(15):
        world = play(seed, 5, FAULTS, rounds=4, audit=audit)
        assert not world.evidence


def test_who_was_deposed_stays_so_over_a_restart() -> None:
    """§8.16."""
    world = lying_world(3, "wrong-result", "full")
    world.run(300.0, until_ended=False)
    (liar,) = world.liars
    node = next(node for node in world.nodes if node.index != liar)
    world.boot(node)
    assert node.machine is not None
    assert set(node.machine.context.deposed) == {IDS[liar]}


@pytest.mark.parametrize(("mode", "count"), [("none", 0), ("spot", 2), ("full", 7)])
def test_who_audits(mode: str, count: int) -> None:
    """§8.18."""
    chosen = [auditors_of(RUN, number, IDS[:7], mode) for number in range(50)]
    assert {len(some) for some in chosen} == {count}
    assert mode != "spot" or len(set(chosen)) > 10


# --- proofs ------------------------------------------------------------------------------------------------------
class Judge:
    """A node some rounds into an honest run, to which somebody brings proofs."""

    def __init__(self, audit: str = "full") -> None:
        world = World(31, 4, rounds=40, audit=audit)
        world.run(8.0, until_ended=False)
        self.now = world.now
        self.accused = IDS.index(world.reigns[1])
        self.other = (self.accused + 2) % 4
        node = world.nodes[(self.accused + 1) % 4]
        assert node.machine is not None
        self.machine: RunMachine = node.machine
        held = self.machine.ledger.committed
        assert held is not None
        self.held = held

    def issue(self, by: int | None = None, **changes: Any) -> bytes:
        body = {"run": RUN, "term": 1, "round": self.held.checkpoint.round, "checkpoint": self.held.name, **changes}
        return sign_note(KEYS[self.accused if by is None else by], Issue(**body))

    def made(self, by: int | None = None, **changes: Any) -> bytes:
        maker = self.accused if by is None else by
        body: Checkpoint = self.held.checkpoint.model_copy(update={"maker": IDS[maker], **changes})
        return sign_note(KEYS[maker], body)

    def receipt(self, by: int | None = None, **changes: Any) -> bytes:
        body = {"run": RUN, "term": 1, "round": self.held.checkpoint.round, "node": IDS[2], "offer": hash_of(b"x")}
        return sign_note(KEYS[self.accused if by is None else by], Receipt(**{**body, **changes}))

    def proof(self, what: Any, first: bytes, second: bytes, accused: int | None = None) -> Accusation:
        who = IDS[self.accused if accused is None else accused]
        return Accusation(run=RUN, accused=who, what=what, first=first, second=second)

    def hears(self, proof: Accusation, peer: int | None = None) -> list[Any]:
        return self.machine.step(Received(IDS[self.other if peer is None else peer], proof), self.now)


OTHER = hash_of(b"another")
ANOTHER_RUN = hash_of(b"another run")
NO_PROOFS: dict[str, Any] = {
    "one issue twice": lambda j: j.proof("two-issues", j.issue(), j.issue()),
    "issues of two terms": lambda j: j.proof("two-issues", j.issue(), j.issue(term=2, checkpoint=OTHER)),
    "issues of two rounds": lambda j: j.proof("two-issues", j.issue(), j.issue(round=1, checkpoint=OTHER)),
    "an issue by another": lambda j: j.proof("two-issues", j.issue(), j.issue(by=j.other, checkpoint=OTHER)),
    "an issue of another run": lambda j: j.proof("two-issues", j.issue(), j.issue(run=ANOTHER_RUN, checkpoint=OTHER)),
    "an issue that is none": lambda j: j.proof("two-issues", j.issue(), b"junk"),
    "one checkpoint twice": lambda j: j.proof("two-checkpoints", j.made(), j.made()),
    "checkpoints of two terms": lambda j: j.proof("two-checkpoints", j.made(), j.made(made_in_term=9)),
    "checkpoints of two rounds": lambda j: j.proof("two-checkpoints", j.made(), j.made(round=9)),
    "a checkpoint by another": lambda j: j.proof("two-checkpoints", j.made(), j.made(by=j.other, model=OTHER)),
    "a receipt by another": lambda j: j.proof("dropped-update", j.receipt(by=j.other), j.made()),
    "a receipt of another term": lambda j: j.proof("dropped-update", j.receipt(term=2), j.made()),
    "a receipt of another round": lambda j: j.proof("dropped-update", j.receipt(round=1), j.made()),
    "a receipt that is honoured": lambda j: j.proof(
        "dropped-update", j.receipt(offer=hash_of(j.held.checkpoint.updates[0].offer)), j.made()
    ),
    "a receipt before a stop": lambda j: j.proof("dropped-update", j.receipt(), j.made(outcome="stopped")),
    "an issue of another checkpoint": lambda j: j.proof("wrong-result", j.issue(checkpoint=OTHER), j.made()),
}


@pytest.mark.parametrize("name", NO_PROOFS)
def test_what_proves_nothing(name: str) -> None:
    """§8.17."""
    judge = Judge()
    proof = NO_PROOFS[name](judge)
    with pytest.raises(RemoteProtocolError):
        check_proof(RUN, proof, also_issuers=True)
    outputs = judge.hears(proof)
    assert [type(output) for output in outputs] == [Misbehaved]
    assert not judge.machine.context.deposed


@pytest.mark.parametrize(
    "make",
    [
        lambda j: j.proof("two-issues", j.issue(), j.issue(checkpoint=OTHER)),
        lambda j: j.proof("two-checkpoints", j.made(), j.made(model=OTHER)),
        lambda j: j.proof("dropped-update", j.receipt(), j.made()),
    ],
)
def test_what_proves_a_lie_by_itself(make: Any) -> None:
    """§8.16, §8.12: it is kept durably and shown; said twice it is shown once."""
    judge = Judge()
    outputs = judge.hears(make(judge))
    (evidence,) = [output for output in outputs if isinstance(output, Evidence)]
    assert evidence.node == IDS[judge.accused]
    assert list(judge.machine.context.deposed) == [IDS[judge.accused]]
    assert not judge.hears(make(judge))


def wrong_result(judge: Judge) -> tuple[Accusation, str]:
    """An accusation of a committed checkpoint that the judge has not recomputed itself."""
    other = judge.held.checkpoint.model_copy(update={"model": OTHER, "maker": IDS[judge.accused]})
    name = checkpoint_name(other)
    return judge.proof("wrong-result", judge.issue(checkpoint=name), sign_note(KEYS[judge.accused], other)), name


@pytest.mark.parametrize(("verdict", "deposed"), [("its model is another", True), ("", False), (None, False)])
def test_a_result_is_recomputed_before_anybody_is_deposed(verdict: str | None, deposed: bool) -> None:
    """§8.17: and who accused wrongly is not listened to again."""
    judge = Judge()
    proof, name = wrong_result(judge)
    (asked,) = judge.hears(proof)
    assert isinstance(asked, Recompute)
    assert not judge.machine.context.deposed
    outputs = judge.machine.step(Recomputed(asked.name, verdict), judge.now)
    assert (IDS[judge.accused] in judge.machine.context.deposed) is deposed
    if verdict == "":
        assert [output.peer for output in outputs if isinstance(output, Misbehaved)] == [IDS[judge.other]]
        assert not judge.hears(judge.proof("two-issues", judge.issue(), judge.issue(checkpoint=OTHER)))
    assert asked.name == name


def test_who_issues_anothers_result_answers_for_it_under_a_full_audit_alone() -> None:
    """§8.18: elsewhere it may be committed, and must be issued again."""
    for audit, answers in (("full", True), ("spot", False)):
        judge = Judge(audit)
        wrong = judge.held.checkpoint.model_copy(update={"model": OTHER, "maker": IDS[judge.accused]})
        raw, name = sign_note(KEYS[judge.accused], wrong), checkpoint_name(wrong)
        proof = judge.proof("wrong-result", judge.issue(by=judge.other, checkpoint=name), raw, accused=judge.other)
        assert any(isinstance(output, Recompute) for output in judge.hears(proof)) is answers


def test_a_stranger_accuses_nobody() -> None:
    judge = Judge()
    proof = judge.proof("two-issues", judge.issue(), judge.issue(checkpoint=OTHER))
    assert [type(output) for output in judge.hears(proof, peer=20)] == [Misbehaved]


# --- who was deposed ---------------------------------------------------------------------------------------------
def test_nobody_votes_for_or_obeys_who_was_deposed() -> None:
    """§8.16: the one that reigns is forsaken at once, and in no later term is it followed."""
    judge = Judge()
    accused, election = IDS[judge.accused], judge.machine.election
    assert (election.aggregator, election.term) == (accused, 1)
    judge.hears(judge.proof("two-issues", judge.issue(), judge.issue(checkpoint=OTHER)))
    assert election.aggregator is None
    newest = {"run": RUN, "term": 2, "stored_term": 9, "stored_round": 99}
    beat = Heartbeat(run=RUN, term=2, committed_round=0, committed="", opened=True, states="")
    for message in (PreVoteRequest(**newest), VoteRequest(**newest), beat):
        outputs = judge.machine.step(Received(accused, message), judge.now + 60.0)
        assert not [output for output in outputs if getattr(getattr(output, "message", None), "granted", False)]
        assert (election.aggregator, election.term) == (None, 1)
    outputs = judge.machine.step(Received(IDS[judge.other], VoteRequest(**newest)), judge.now + 60.0)
    assert [output.message.granted for output in outputs if isinstance(output, Send)] == [True]  # type: ignore[union-attr]


def test_an_aggregator_takes_nothing_from_who_was_deposed() -> None:
    """§8.16: neither its updates, nor itself where it asks to be taken in."""
    gatherer = Gatherer()
    for index, is_deposed in ((gatherer.others[0], True), (OUTSIDER, True), (gatherer.others[1], False)):
        if is_deposed:
            first, second = (
                sign_note(KEYS[index], Issue(run=RUN, term=1, round=1, checkpoint=name)) for name in (OTHER, RUN)
            )
            proof = Accusation(run=RUN, accused=IDS[index], what="two-issues", first=first, second=second)
            gatherer.machine.step(Received(IDS[gatherer.others[2]], proof), gatherer.now)
        assert collected(gatherer.offer(index, gatherer.good(index))) == ([] if is_deposed else [IDS[index]])
    reign = gatherer.machine.reign
    assert reign is not None
    for index, is_taken in ((OUTSIDER, False), (OUTSIDER + 1, True)):
        gatherer.machine.step(Received(IDS[index], ReadyMessage(run=RUN, ready=ready_note(index))), gatherer.now)
        assert (IDS[index] in reign.entrants) is is_taken


def test_the_maker_is_no_auditor_of_its_own() -> None:
    """§8.18: in every round one of the others is drawn, whoever made the checkpoint."""
    world = lying_world(5, "", "spot", nodes=4)
    world.liars.clear()
    world.run(8.0, until_ended=False)
    machines = [node.machine for node in world.nodes if node.machine is not None]
    made = next(made for made in world.checkpoints.values() if made.updates)
    for number in range(100, 140):
        other = made.model_copy(update={"round": number})
        held = Held(checkpoint_name(other), other, b"")
        auditors = {machine.context.me for machine in machines if machine.audit.must_recompute(held)}
        assert len(auditors - {other.maker}) == 1


@pytest.mark.parametrize(
    ("refused", "changes", "is_right"),
    [
        ("", {}, True),
        ("not-finite", {}, True),  # for who looks at the bytes
        ("not-chosen", {}, False),
        ("wrong-base", {}, False),
        ("wrong-base", {"base": OTHER}, True),
        ("no-samples", {"samples": 0}, True),
        ("wrong-base", {"samples": 0}, False),
        ("", {"samples": 0}, False),
        ("too-late", {}, False),
    ],
)
def test_a_refusal_must_follow_from_the_offer(refused: str, changes: dict[str, Any], is_right: bool) -> None:
    """§8.16, §8.18: for what the offer alone decides nothing is fetched, and who says it wrongly is deposed."""
    victim = Victim(audit="full")
    entry = victim.entry(1, weight=0 if refused else 10, refused=refused, **changes)
    made = victim.next_checkpoint(updates=(victim.entry(0), entry))
    outputs = proposed(victim, made)
    assert any(isinstance(output, Recompute) for output in outputs) is is_right
    assert (IDS[victim.aggregator] in victim.machine.context.deposed) is not is_right


def proposed(victim: Victim, made: Checkpoint) -> list[Any]:
    """What the victim does when its aggregator issues this, and it has been obtained."""
    issue, key = Issue(run=RUN, term=1, round=made.round, checkpoint=checkpoint_name(made)), KEYS[victim.aggregator]
    raw = sign_note(KEYS[IDS.index(NodeId(made.maker))], made)
    proposal = Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=raw)
    outputs = victim.step(Received(IDS[victim.aggregator], proposal))
    return outputs + victim.step(Obtained(checkpoint_name(made), True))


def has_acknowledged(outputs: list[Any]) -> bool:
    return any(isinstance(getattr(output, "message", None), Acknowledgement) for output in outputs)


def test_nothing_is_acknowledged_before_it_was_recomputed() -> None:
    """§8.18: not while that is under way, nor when it could not be done, nor where the base is missing."""
    victim = Victim(audit="full")
    made = victim.next_checkpoint()
    for verdict in (None, ""):
        outputs = proposed(victim, made)
        assert any(isinstance(output, Recompute) for output in outputs)
        assert not has_acknowledged(outputs)
        outputs = victim.step(Recomputed(checkpoint_name(made), verdict))
        assert has_acknowledged(outputs) is (verdict == "")
    victim = Victim(audit="full")
    far = victim.next_checkpoint(round=made.round + 1, previous=OTHER)
    entries = tuple(
        UpdateEntry(offer=signed_offer(index, far.round, OTHER), weight=10, refused="", reason="") for index in (0, 1)
    )
    outputs = proposed(victim, far.model_copy(update={"updates": entries}))
    assert any(isinstance(getattr(output, "message", None), AskCommit) for output in outputs)
    assert not has_acknowledged(outputs)


@pytest.mark.parametrize(("audit", "acknowledges"), [("spot", True), ("full", False)])
def test_a_wrong_result_that_another_issues_again(audit: str, acknowledges: bool) -> None:
    """§8.18: under a spot audit it may be committed already."""
    victim = Victim(audit=audit)
    made = victim.next_checkpoint(maker=IDS[victim.me])
    victim.step(Recomputed(checkpoint_name(made), "its model is another"))
    assert has_acknowledged(proposed(victim, made)) is acknowledges
    assert (IDS[victim.aggregator] in victim.machine.context.deposed) is not acknowledges
