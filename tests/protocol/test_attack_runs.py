"""attack"""
from typing import Any
import pytest
from run_victims import OUTSIDER, Gatherer, Victim, collected, signed_offer, ack
from run_world import IDS, KEYS, RUN, Faults, World, play, ready_note
from protocol.checkpoint import *
from protocol.directions import Directions
from protocol.run_events import *
from protocol.run_messages import *
from protocol.wire import hash_of


def proposed(victim, made, issuer=None, term=1):
    who = victim.aggregator if issuer is None else issuer
    issue, key = Issue(run=RUN, term=term, round=made.round, checkpoint=checkpoint_name(made)), KEYS[who]
    raw = sign_note(KEYS[IDS.index(made.maker)], made)
    proposal = Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=raw)
    outputs = victim.step(Received(IDS[who], proposal))
    return outputs + victim.step(Obtained(checkpoint_name(made), True))


def acked(outputs):
    return any(isinstance(getattr(o, "message", None), Acknowledgement) for o in outputs)


@pytest.mark.parametrize("name,changes", [
    ("empty", {"updates": (), "model": hash_of(b"evil"), "difference": hash_of(b"evil difference")}),
    ("failed", {"updates": (), "outcome": "failed", "reason": "ha"}),
    ("backdated", {"updates": (), "made_in_term": 0}),
])
def test_full_audit_acks(name, changes):
    victim = Victim(audit="full")
    assert not acked(proposed(victim, victim.next_checkpoint(**changes)))


def test_failed_outcome_audited():
    victim = Victim(audit="full")
    made = victim.next_checkpoint(outcome="failed", reason="ha")
    out = proposed(victim, made)
    out += victim.step(Recomputed(checkpoint_name(made), ""))
    assert not acked(out)


@pytest.mark.parametrize("changes", [{"model": hash_of(b"evil")}, {"rounds": 0}, {"model": hash_of(b"evil"), "difference": hash_of(b"d")}, {"server_state": hash_of(b"z")}])
def test_stop_that_changes(changes):
    victim = Victim(audit="full")
    victim.step(Directed(Directions(stop="enough")))
    base = victim.committed.checkpoint
    made = victim.next_checkpoint(**{"updates": (), "model": base.model, "difference": "", "outcome": "stopped", "rounds": base.rounds + 1, **changes})
    assert not acked(proposed(victim, made))


def test_stop_unasked_after_a_resumption():
    victim = Victim(audit="full")
    victim.step(Directed(Directions(resumed=frozenset({hash_of(b"long ago")}))))
    base = victim.committed.checkpoint
    made = victim.next_checkpoint(**{"updates": (), "model": base.model, "difference": "", "outcome": "stopped", "rounds": base.rounds + 1})
    assert not acked(proposed(victim, made))


def test_sybil_voters():
    victim = Victim(audit="full")
    base = victim.committed.checkpoint
    made = victim.next_checkpoint(roster=(*base.roster, IDS[OUTSIDER]), entrants=(*base.entrants, ready_note(OUTSIDER)), voters=(*base.voters, IDS[OUTSIDER]))
    out = proposed(victim, made) + victim.step(Recomputed(checkpoint_name(made), ""))
    assert not acked(out)


def test_voter_put_out():
    victim = Victim(audit="full")
    base = victim.committed.checkpoint
    gone = next(v for v in base.voters if v not in (IDS[victim.me], IDS[victim.aggregator]))
    made = victim.next_checkpoint(voters=tuple(v for v in base.voters if v != gone))
    out = proposed(victim, made) + victim.step(Recomputed(checkpoint_name(made), ""))
    assert not acked(out)


@pytest.mark.parametrize("kind", ["late", "now"])
def test_stranger_offer(kind):
    g = Gatherer(late_are_used=True)
    m = g.machine
    base = m.reign.gathering.base.checkpoint
    raw = signed_offer(OUTSIDER, 1 if kind == "now" else 0, g.base if kind == "now" else base.previous or hash_of(b"x"))
    out = g.offer(OUTSIDER, raw)
    print(out, m.reign.gathering.refused)
    assert not m.reign.gathering.refused and not collected(out)


def test_stranger_stalls_world():
    world = World(3, 4, rounds=3)
    world.run(3.0, until_ended=False)
    def send_offers(src, peer, message):
        if isinstance(message, Heartbeat):
            agg = world.nodes[src].machine
            if agg and agg.reign and agg.reign.gathering:
                gth = agg.reign.gathering
                raw = signed_offer(OUTSIDER, gth.round, gth.base.name)
                world._push(world.now + .01, src, Received(IDS[OUTSIDER], OfferMessage(run=RUN, offer=raw)))
    world.on_send = send_offers
    world.run(600.0)
    print(world.committed.keys(), {m.what for m in world.misbehaved})
    world.check_ended("finished")


def test_forged_reign():
    """an eligible liar says that it reigns."""
    world = World(3, 5, rounds=5)
    world.run(3.0, until_ended=False)
    liar = 4
    def usurp(src, peer, message):
        if isinstance(message, Heartbeat) and src != liar or isinstance(message, (PreVoteRequest,)):
            beat = Heartbeat(run=RUN, term=(message.term + 1), committed_round=0, committed="", opened=True, states="")
            for i in range(5):
                if i != liar: world._push(world.now + .01, i, Received(IDS[liar], beat))
    world.on_send = usurp
    world.run(600.0)
    print(world.committed.keys(), max(world.reigns))
    world.check_ended("finished")
