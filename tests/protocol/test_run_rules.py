"""Rules of a run one by one, where storms seldom come or nothing would show: each case beside its honest twin.

docs/protocol.md §6 to §8.
"""

import pytest
from run_victims import NODES, OUTSIDER, Gatherer, Victim, ack, collected, commits, signed_offer
from run_world import IDS, KEYS, RUN, Faults, World, play, ready_note

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.run.checkpoint import Checkpoint, Issue, Ready, UpdateEntry, checkpoint_name, open_issue, sign_note
from protocol.run.election import Role
from protocol.run.events import (
    Collect,
    Collected,
    Combine,
    Combined,
    Committed,
    Elected,
    Evidence,
    Obtain,
    Obtained,
    Received,
    RunEvent,
    RunOutput,
    Send,
    SetTimer,
    Timer,
)
from protocol.run.gathering import Gathering
from protocol.run.ledger import Held
from protocol.run.messages import (
    AskCommit,
    Commit,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    Proposal,
    ReceiptMessage,
    VoteReply,
    VoteRequest,
    VotersChanged,
)
from protocol.run.voters import lot, trainers_of, voters_of
from protocol.wire import hash_of

OTHER = hash_of(b"another")


# --- who takes part ----------------------------------------------------------------------------------------------
def test_voters_are_the_most_able_by_class_then_by_lot() -> None:
    """§6.1: of 39, of whom the two most able observe."""

    def note(index: int) -> Ready:
        observes = index in (7, 15)
        return Ready(
            run=RUN, node=IDS[index], role="observer" if observes else "trainer", data_fingerprint="",
            capacity_class=7 if observes else index % 8,
        )  # fmt: skip

    notes = {note.node: note for note in map(note, range(39))}
    voters = voters_of(RUN, notes.values())
    assert len(voters) == 31
    assert not {IDS[7], IDS[15]}.intersection(voters)
    ranks = [(-notes[node].capacity_class, lot(RUN, node)) for node in voters]
    assert ranks == sorted(ranks)
    left_out = [note.capacity_class for node, note in notes.items() if node not in voters and note.role == "trainer"]
    assert max(left_out) <= min(notes[node].capacity_class for node in voters)
    assert voters_of(RUN, reversed(notes.values())) == voters


def test_who_trains_follows_from_the_lots_of_the_round() -> None:
    """§6.3: the fraction is rounded up, and each round draws anew."""
    rounds = [trainers_of(RUN, number, IDS[:10], 0.25) for number in range(1, 30)]
    assert {len(chosen) for chosen in rounds} == {3}
    assert frozenset().union(*rounds) == frozenset(IDS[:10])
    assert trainers_of(RUN, 1, IDS[9::-1], 0.25) == rounds[0]


# --- aggregators -------------------------------------------------------------------------------------------------
def test_a_second_aggregator_of_one_term_is_not_obeyed() -> None:
    """§7.6: neither its heartbeats nor its proposals, though it is a voter; it is answered with the term."""
    victim = Victim()
    other = next(index for index in range(NODES) if index not in (victim.me, victim.aggregator))
    term = victim.machine.election.term
    beat = Heartbeat(run=RUN, term=term, committed_round=99, committed=OTHER, opened=True, states="")
    made = victim.next_checkpoint(maker=IDS[other])
    issue = Issue(run=RUN, term=term, round=made.round, checkpoint=checkpoint_name(made))
    proposal = Proposal(run=RUN, issue=sign_note(KEYS[other], issue), checkpoint=sign_note(KEYS[other], made))
    for message in (beat, proposal):
        outputs = victim.step(Received(IDS[other], message))
        assert not [output for output in outputs if isinstance(output, Obtain | Elected)]
        sent = [output.message for output in outputs if isinstance(output, Send)]
        assert [(type(reply), reply.term) for reply in sent] == [(HeartbeatReply, term)]  # type: ignore[union-attr]
    assert victim.machine.election.aggregator == IDS[victim.aggregator]


@pytest.mark.parametrize("wrong", [{}, {"checkpoint": OTHER}, {"round": 9}, {"run": OTHER}])
def test_an_issue_names_the_checkpoint_that_comes_with_it(wrong: dict[str, object]) -> None:
    """§8.2, §8.4."""
    victim = Victim()
    made, key = victim.next_checkpoint(), KEYS[victim.aggregator]
    body = {"run": RUN, "term": 1, "round": made.round, "checkpoint": checkpoint_name(made), **wrong}
    proposal = Proposal(run=RUN, issue=sign_note(key, Issue(**body)), checkpoint=sign_note(key, made))  # type: ignore[arg-type]
    outputs = victim.step(Received(IDS[victim.aggregator], proposal))
    assert any(isinstance(output, Obtain) for output in outputs) is not bool(wrong)


def test_a_run_finishes_at_its_last_round_and_nowhere_else() -> None:
    """§8.9: neither before it, nor with a last round that has none of it said."""
    victim = Victim()
    assert not victim.acknowledges(victim.next_checkpoint(outcome="finished"))
    assert not victim.acknowledges(victim.next_checkpoint(rounds=victim.committed.checkpoint.round + 1))


def test_two_issues_are_noticed_while_the_first_is_fetched() -> None:
    """§8.12."""
    victim = Victim()
    key, outputs = KEYS[victim.aggregator], []
    for made in (victim.next_checkpoint(), victim.next_checkpoint(model=OTHER)):
        issue = Issue(run=RUN, term=1, round=made.round, checkpoint=checkpoint_name(made))
        proposal = Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=sign_note(key, made))
        outputs += victim.step(Received(IDS[victim.aggregator], proposal))
    assert [output.node for output in outputs if isinstance(output, Evidence)] == [IDS[victim.aggregator]]
    assert victim.machine.election.aggregator is None


def test_the_first_in_rank_stands_first() -> None:
    """§7.9: whatever the jitter."""
    for seed in range(12):
        world = World(seed, 5)
        world.run(2.0, until_ended=False)
        assert world.reigns[1] == world.nodes[0].machine.context.voters[0]  # type: ignore[union-attr]


def test_an_aggregator_that_sees_a_newer_term_is_none_any_more() -> None:
    """§7.4."""
    for reply in (
        VoteReply(run=RUN, term=2, granted=False),
        HeartbeatReply(run=RUN, term=2, committed_round=0, state="W"),
    ):
        gatherer = Gatherer()
        gatherer.machine.step(Received(IDS[gatherer.others[0]], reply), gatherer.now)
        assert (gatherer.machine.election.term, gatherer.machine.election.role) == (2, Role.FOLLOWER)
        assert gatherer.machine.reign is None
        assert collected(gatherer.offer(gatherer.others[0], gatherer.good(gatherer.others[0]))) == []


def elect(victim: Victim) -> list[RunOutput]:
    """The aggregator has died, and all the others are for the victim."""
    victim.now += 60.0
    outputs = victim.step(Timer("election"))
    term = victim.machine.election.term + 1
    others = [IDS[index] for index in range(NODES) if index not in (victim.me, victim.aggregator)]
    for kind in (PreVoteReply, VoteReply):
        for peer in others:
            outputs += victim.step(Received(peer, kind(run=RUN, term=term, granted=True)))
    assert victim.machine.election.role is Role.AGGREGATOR
    return outputs


def test_what_was_acknowledged_is_issued_again_and_not_what_was_committed_before() -> None:
    """§8.1, §8.2: the newest stored, under the new term and its old name; also after a restart (§8.4)."""
    for restarts in (False, True):
        victim = Victim()
        newest = victim.next_checkpoint()
        assert victim.acknowledges(newest)
        if restarts:
            victim.restart()
        proposals = [out.message for out in elect(victim) if isinstance(getattr(out, "message", None), Proposal)]
        issues = {open_issue(proposal.issue).body for proposal in proposals if isinstance(proposal, Proposal)}
        assert {(issue.term, issue.round, issue.checkpoint) for issue in issues} == {
            (2, newest.round, checkpoint_name(newest))
        }
        assert victim.machine.reign is not None
        assert victim.machine.reign.gathering is None


def test_a_restarted_voter_knows_its_vote_and_what_it_has_acknowledged() -> None:
    """§7.3, §7.7, §8.4."""
    victim = Victim()
    newest = victim.next_checkpoint()
    assert victim.acknowledges(newest)
    first, second = (IDS[index] for index in range(NODES) if index not in (victim.me, victim.aggregator))
    victim.now += 60.0

    def votes(peer: NodeId, term: int, number: int) -> bool:
        request = VoteRequest(run=RUN, term=term, stored_term=1, stored_round=number)
        outputs = victim.step(Received(peer, request))
        (reply,) = [output.message for output in outputs if isinstance(output, Send)]
        assert isinstance(reply, VoteReply)
        return reply.granted

    assert votes(first, 2, newest.round)
    victim.restart()
    assert not votes(second, 2, newest.round)
    assert votes(first, 2, newest.round)
    assert not votes(second, 3, newest.round - 1)
    assert votes(second, 3, newest.round)


def test_an_older_checkpoint_does_not_come_back() -> None:
    """§8.4: a proposal that was long on its way takes nothing from what was acknowledged since."""
    victim = Victim()
    newest = victim.next_checkpoint()
    assert victim.acknowledges(newest)
    old, key = victim.committed, KEYS[victim.aggregator]
    issue = Issue(run=RUN, term=1, round=old.checkpoint.round, checkpoint=old.name)
    late = Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=old.raw)
    outputs = victim.step(Received(IDS[victim.aggregator], late)) + victim.step(Obtained(old.name, True))
    assert [type(getattr(output, "message", None)) for output in outputs if isinstance(output, Send)] == [
        HeartbeatReply
    ]
    assert victim.machine.ledger.stored.name == checkpoint_name(newest)


def test_another_commit_by_another_maker_is_evidence_too() -> None:
    """§8.12: nobody is deposed for it, since none of the two makers need have lied."""
    victim = Victim()
    other = victim.committed.checkpoint.model_copy(update={"maker": IDS[victim.me], "made_in_term": 2, "model": OTHER})
    message = victim.machine.ledger.newest_commit().model_copy(
        update={"checkpoint": sign_note(KEYS[victim.me], other), "acks": certificate(other, 0, 1, 2)}
    )
    for shown_before in (False, True):
        outputs = victim.step(Received(IDS[victim.aggregator], message))
        evidence = [output for output in outputs if isinstance(output, Evidence)]
        assert [output.second for output in evidence] == ([] if shown_before else [message.checkpoint])
    assert not victim.machine.context.deposed


def test_an_entrants_note_is_for_this_run() -> None:
    """§6.4."""
    note = Ready(run=OTHER, node=IDS[OUTSIDER], role="trainer", data_fingerprint="", capacity_class=3)
    for entrant, is_taken in ((sign_note(KEYS[OUTSIDER], note), False), (ready_note(OUTSIDER), True)):
        victim = Victim()
        roster = (*victim.committed.checkpoint.roster, IDS[OUTSIDER])
        assert victim.acknowledges(victim.next_checkpoint(roster=roster, entrants=(entrant,))) is is_taken


# --- voters that change ------------------------------------------------------------------------------------------
def changed(victim: Victim, rounds: int, previous: str, voters: tuple[str, ...]) -> Checkpoint:
    """The checkpoint so many rounds after the committed one, with these voters. The outsider has been taken in."""
    base = victim.committed.checkpoint
    offer = signed_offer(0, base.round + rounds, previous)
    return victim.next_checkpoint(
        round=base.round + rounds, previous=previous, voters=voters,
        updates=(UpdateEntry(offer=offer, weight=10, refused="", reason=""),),
        roster=(*base.roster, IDS[OUTSIDER]), entrants=(ready_note(OUTSIDER),),
    )  # fmt: skip


def certificate(made: Checkpoint, *signers: int) -> tuple[bytes, ...]:
    return tuple(ack(index, made.round, checkpoint_name(made)) for index in signers)


def shown(made: Checkpoint, *signers: int) -> VotersChanged:
    raw = sign_note(KEYS[IDS.index(NodeId(made.maker))], made)
    return VotersChanged(checkpoint=raw, acks=certificate(made, *signers))


def test_missed_changes_of_voters_are_believed_one_by_one() -> None:
    """§8.13: a commit two changes away is believed with the commit in between, and asked for without it."""
    three, another = tuple(IDS[:3]), (*IDS[:3], IDS[OUTSIDER])
    victim = Victim()
    between = changed(victim, 1, victim.committed.name, three)
    last = changed(victim, 2, checkpoint_name(between), another)
    proof = certificate(last, 0, 1, OUTSIDER)
    assert not commits(victim, last, proof, (shown(between, 0),))  # one of three is no certificate
    raw = sign_note(KEYS[victim.aggregator], last)
    alone = Victim()
    assert not commits(alone, last, proof)
    assert not alone.machine.intake.awaits_commit
    assert commits(victim, last, proof, (shown(between, 0, 1),))
    assert victim.machine.ledger.newest_commit().checkpoint == raw


def test_changes_of_voters_with_a_gap_are_not_believed() -> None:
    """§8.13: two were put out at once, as its certificate says, too."""
    victim = Victim()
    between = changed(victim, 1, victim.committed.name, tuple(IDS[:2]))
    last = changed(victim, 2, checkpoint_name(between), tuple(IDS[:3]))
    assert not commits(victim, last, certificate(last, 0, 1, 2), (shown(between, 0, 1),))


def test_who_missed_changes_asks_for_them() -> None:
    """§8.13, §8.10: of whoever brought the commit that cannot be judged."""
    victim = Victim()
    last = changed(victim, 2, OTHER, (*IDS[:3], IDS[OUTSIDER]))
    bare = shown(last, 0, 1, OUTSIDER)
    message = victim.machine.ledger.newest_commit().model_copy(
        update={"round": last.round, "checkpoint": bare.checkpoint, "acks": bare.acks}
    )
    outputs = victim.step(Received(IDS[2], message))
    assert [type(output.message) for output in outputs if isinstance(output, Send)] == [AskCommit]


# --- rounds ------------------------------------------------------------------------------------------------------
def test_a_round_waits_for_all_who_are_to_train() -> None:
    """§8.7: nobody failed and nobody is silent, so everybody's update is in every round."""
    world = play(41, 5, Faults())
    assert [len(made.updates) for made in world.checkpoints.values() if made.round] == [5] * 3


def receipts(outputs: list) -> list[NodeId]:  # type: ignore[type-arg]
    return [output.peer for output in outputs if isinstance(getattr(output, "message", None), ReceiptMessage)]


def test_no_receipt_while_the_others_are_combined() -> None:
    """§8.16: what is not in the sum any more gets none: that would be a lie. If the sum fails it may come again."""
    gatherer = Gatherer(round_deadline_s=20.0)
    first, second, third = gatherer.others[:3]
    (collect,) = [out for out in gatherer.offer(second, gatherer.good(second)) if isinstance(out, Collect)]
    assert receipts(gatherer.deliver(first)) == [IDS[first]]
    gatherer.now += 21.0
    (combine,) = [out for out in gatherer.machine.step(Timer("round"), gatherer.now) if isinstance(out, Combine)]
    assert len(combine.offers) == 1
    outputs = gatherer.machine.step(Collected(collect.name), gatherer.now)
    outputs += gatherer.offer(third, gatherer.good(third))
    assert receipts(outputs) == []
    assert collected(outputs) == []
    gatherer.machine.step(Combined(combine.round, combine.term, failed="no room"), gatherer.now)
    assert collected(gatherer.offer(second, gatherer.good(second))) == [IDS[second]]


def test_who_cannot_combine_stands_after_all_others() -> None:
    """§8.21: after the third time, and not before."""
    gatherer = Gatherer()
    election, settings = gatherer.machine.election, gatherer.machine.context.settings
    failed = Combined(1, election.term, failed="no room")
    for _ in range(2):
        gatherer.machine.step(failed, gatherer.now)
        assert election.role is Role.AGGREGATOR
    outputs = gatherer.machine.step(failed, gatherer.now)
    assert election.role is Role.FOLLOWER
    waits = [output.after_s for output in outputs if isinstance(output, SetTimer) and output.name == "election"]
    assert waits[-1] > settings.election_timeout_s + NODES * settings.rank_step_s


# --- late updates ------------------------------------------------------------------------------------------------
def gathering(*, late_are_used: bool) -> Gathering:
    """The round after the victim's newest commit, from which node 3 was left out."""
    victim = Victim()
    base = victim.committed.checkpoint
    base = base.model_copy(update={"updates": tuple(e for e in base.updates if e.offer != victim.offer_in(base, 3))})
    held = Held(checkpoint_name(base), base, b"")
    return Gathering(RUN, base.round + 1, held, frozenset(IDS[:NODES]), 9.0, late_are_used)


def test_late_updates_need_the_configurations_leave() -> None:
    """§8.20: for the aggregator, and for who looks at a checkpoint."""
    for leave in (True, False):
        round_ = gathering(late_are_used=leave)
        late = signed_offer(3, round_.round - 1, round_.base.checkpoint.previous)
        assert isinstance(round_.on_offer(IDS[3], late), Collect) is leave
    victim = Victim()
    base = victim.committed.checkpoint
    entry = UpdateEntry(offer=signed_offer(1, base.round, base.previous), weight=5, refused="", reason="")
    assert not victim.acknowledges(victim.next_checkpoint(updates=(victim.entry(0), entry)))


def test_a_checkpoint_uses_late_updates_that_fit_alone() -> None:
    """§8.20: not those of nodes whose update was used in the round that it was learned for."""
    victim = Victim(late_are_used=True)
    base = victim.committed.checkpoint
    again = UpdateEntry(offer=victim.offer_in(base, 1), weight=5, refused="", reason="")
    assert not victim.acknowledges(victim.next_checkpoint(updates=(victim.entry(0), again)))
    assert victim.acknowledges(victim.next_checkpoint())


def test_a_late_update_takes_the_place_of_one_in_time() -> None:
    """§8.20: of one node one update counts in a round."""
    round_ = gathering(late_are_used=True)
    late = signed_offer(3, round_.round - 1, round_.base.checkpoint.previous)
    in_time = signed_offer(3, round_.round, round_.base.name)
    assert isinstance(round_.on_offer(IDS[3], late), Collect)
    with pytest.raises(RemoteProtocolError, match="second update"):
        round_.on_offer(IDS[3], in_time)


def test_a_model_is_not_had_whole_while_its_difference_is_on_its_way() -> None:
    """§8.6: who had it proposed, and sees it committed meanwhile, has two tries under way, of which one may fail."""
    victim = Victim()
    checkpoint, peer = victim.next_checkpoint(difference=OTHER), IDS[victim.aggregator]
    name, key = checkpoint_name(checkpoint), KEYS[victim.aggregator]
    raw, issue = sign_note(key, checkpoint), Issue(run=RUN, term=1, round=checkpoint.round, checkpoint=name)
    commit = Commit(run=RUN, round=checkpoint.round, checkpoint=raw, acks=certificate(checkpoint, 0, 1, 2), reports=())

    def obtained(event: RunEvent) -> list[bool]:
        return [output.previous is None for output in victim.step(event) if isinstance(output, Obtain)]

    assert obtained(Received(peer, Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=raw))) == [False]
    assert obtained(Received(IDS[OUTSIDER], commit)) == [False]
    assert obtained(Obtained(name, False)) == []
    assert obtained(Timer("obtain")) == obtained(Obtained(name, False)) == [], "the other one goes on"
    for is_whole in (False, True, False, False, True, False):
        assert [obtained(Timer("obtain")), obtained(Timer("obtain"))] == [[is_whole], []]
        victim.step(Obtained(name, False))
    assert obtained(Timer("obtain")) == [False]
    assert any(isinstance(output, Committed) for output in victim.step(Obtained(name, True)))
