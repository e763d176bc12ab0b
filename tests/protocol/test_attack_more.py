"""attack"""
from typing import Any
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from run_victims import OUTSIDER, Gatherer, Victim, collected, signed_offer, ack
from run_world import IDS, KEYS, RUN, Faults, World, play, ready_note
from protocol.checkpoint import *
from protocol.directions import Directions
from protocol.keys import node_id_of, public_key_of
from protocol.run_events import *
from protocol.run_messages import *
from protocol.wire import hash_of, pack
from test_attack_runs import proposed, acked


def test_heartbeat_reply_term():
    world = World(3, 5, rounds=5)
    world.run(3.0, until_ended=False)
    liar = next(i for i in range(5) if IDS[i] != world.reigns[max(world.reigns)])
    def poke(src, peer, message):
        if isinstance(message, Heartbeat) and peer == IDS[liar]:
            world._push(world.now + .01, src, Received(IDS[liar], HeartbeatReply(run=RUN, term=message.term + 1, committed_round=0, state="R")))
    world.on_send = poke
    world.run(600.0)
    print(world.committed.keys(), max(world.reigns))
    world.check_ended("finished")


def test_usurper_is_aggregator():
    v = Victim()
    liar = next(i for i in range(4) if i not in (v.me, v.aggregator))
    v.step(Received(IDS[liar], Heartbeat(run=RUN, term=2, committed_round=0, committed="", opened=True, states="")))
    assert v.machine.election.aggregator != IDS[liar]


def test_big_offers_crash():
    g = Gatherer()
    for i in range(260):
        key = Ed25519PrivateKey.from_private_bytes(i.to_bytes(4, "big") * 8)
        node = node_id_of(public_key_of(key))
        body = dict(run=RUN, node=node, round=1, base=g.base, update=hash_of(b"u"), update_bytes=9, samples=10, codec="fp32",
            metrics={chr(0x10000 + j) * 70: 1.0 for j in range(50)})
        raw = sign_note(key, Offer(**body))
        assert len(raw) < 16384, len(raw)
        g.machine.step(Received(node, OfferMessage(run=RUN, offer=raw)), g.now)
    print(len(g.machine.reign.gathering.refused))
    outs = []
    outs += g.deliver(g.trainers[0])
    out = g.machine.step(Timer("round"), g.now + 10000.)
    outs += out
    comb = [o for o in outs if isinstance(o, Combine)]
    print(type(outs[-1]), comb[:1] and len(comb[0].refused))
    print('OUTS', [type(o).__name__ for o in outs], g.machine.reign, g.machine.reign and (g.machine.reign.gathering.combining, len(g.machine.reign.gathering.collected)))
    (c,) = comb
    entries = tuple(UpdateEntry(offer=raw, weight=10, refused="", reason="") for raw in c.offers) + c.refused
    g.machine.step(Combined(c.round, c.term, model=hash_of(b"m"), difference=hash_of(b"d"), entries=entries, parameters=7), g.now + 10000.)


def test_two_verdicts():
    """liar aggregator + its trainer serve one auditor and not another: who recomputed first as right calls an honest accuser false."""
    v = Victim(audit="full")
    made = v.next_checkpoint(updates=(v.entry(0), v.entry(1, weight=0, refused="update-not-finite")))
    name = checkpoint_name(made)
    out = proposed(v, made)
    out += v.step(Recomputed(name, ""))  # update of 1 not to be had: nothing is changed by it
    assert acked(out)
    other = next(i for i in range(4) if i not in (v.me, v.aggregator))
    issue = sign_note(KEYS[v.aggregator], Issue(run=RUN, term=1, round=made.round, checkpoint=name))
    acc = Accusation(run=RUN, accused=IDS[v.aggregator], what="wrong-result", first=issue, second=sign_note(KEYS[v.aggregator], made))
    out = v.step(Received(IDS[other], acc))
    print(out)
    assert not any(isinstance(o, Misbehaved) and o.peer == IDS[other] for o in out)


def test_mute():
    """who reigns and only heartbeats"""
    world = World(3, 5, rounds=5)
    liar = IDS.index(world.nodes[0].machine.context.voters[0])
    world.nodes[liar].cannot_combine = False
    world.run(3.0, until_ended=False)
    world._combine_orig = world._combine
    world._combine = lambda node, output: None if node.index == liar else world._combine_orig(node, output)
    world.run(900.0)
    print(world.committed.keys(), max(world.reigns))
    world.check_ended("finished")


def test_backdated_drop():
    """a receipt of term 1 and a checkpoint of the same maker said to be made in term 0"""
    v = Victim()
    m = v.machine
    m.step(Timer("x"), v.now)
    offer = m.participation.offer
    number = v.committed.checkpoint.round + 1
    if offer is None or offer[1].round != number:
        raw = signed_offer(v.me, number, v.committed.name)
        from protocol.checkpoint import open_offer
        m.participation.offer = (raw, open_offer(raw).body)
    raw = m.participation.offer[0]
    rec = sign_note(KEYS[v.aggregator], Receipt(run=RUN, term=1, round=number, node=IDS[v.me], offer=hash_of(raw)))
    v.step(Received(IDS[v.aggregator], ReceiptMessage(run=RUN, receipt=rec)))
    assert m.participation.receipts
    made = v.next_checkpoint(made_in_term=0, updates=tuple(v.entry(i) for i in range(4) if i != v.me))
    out = proposed(v, made)
    assert not acked(out)


def test_sybil_takeover():
    v = Victim(audit="full")
    base = v.committed.checkpoint
    liar = v.aggregator
    sybils = []
    for k in range(3):
        sy = OUTSIDER + k
        base = v.committed.checkpoint
        made = v.next_checkpoint(roster=(*base.roster, IDS[sy]), entrants=(*base.entrants, ready_note(sy)), voters=(*base.voters, IDS[sy]))
        name = checkpoint_name(made)
        out = proposed(v, made) + v.step(Recomputed(name, ""))
        assert acked(out)
        raw = sign_note(KEYS[liar], made)
        sybils.append(sy)
        n = len(made.voters) // 2 + 1
        signers = [liar, *sybils, v.me, (v.me + 1) % 4 if (v.me + 1) % 4 != liar else (v.me + 2) % 4][:n]
        acks = tuple(ack(i, made.round, name) for i in signers)
        out = v.step(Received(IDS[liar], Commit(run=RUN, round=made.round, checkpoint=raw, acks=acks, reports=())))
        out += v.step(Obtained(name, True))
        assert v.machine.ledger.committed.name == name, (k, out)
        v.committed = v.machine.ledger.committed
    made = v.next_checkpoint(model=hash_of(b"the lie"))
    name = checkpoint_name(made)
    acks = tuple(ack(i, made.round, name) for i in (liar, *sybils))
    v.step(Received(IDS[liar], Commit(run=RUN, round=made.round, checkpoint=sign_note(KEYS[liar], made), acks=acks, reports=())))
    v.step(Obtained(name, True))
    assert v.machine.ledger.committed.name != name


def test_obtained_fails_forever():
    """the liar reigns, proposes what cannot be obtained"""
    v = Victim(audit="full")
    for t in range(100):
        made = v.next_checkpoint()
        v.now += 1
        issue = Issue(run=RUN, term=1, round=made.round, checkpoint=checkpoint_name(made))
        out = v.step(Received(IDS[v.aggregator], Proposal(run=RUN, issue=sign_note(KEYS[v.aggregator], issue), checkpoint=sign_note(KEYS[v.aggregator], made))))
        out += v.step(Obtained(checkpoint_name(made), False))
    print(v.machine.election.aggregator, v.machine.election.hears_aggregator())


def test_resume_world_unknown_by_some():
    world = World(5, 5, rounds=6)
    world.run(3.0, until_ended=False)
    world.direct(Directions(stop="s"))
    world.run(60.0)
    stop = max(world.committed)
    name = world.committed[stop]
    # only 0 and 1 hear; then 2 as well
    world.direct(Directions(resumed=frozenset({name})), 0, 1)
    world.run(world.now + 120, until_ended=False)
    print("two know", sorted(world.committed), [n.ended for n in world.nodes])
    world.direct(Directions(resumed=frozenset({name})), 2)
    world.run(world.now + 120, until_ended=False)
    print("three know", sorted(world.committed), [n.ended for n in world.nodes])
    world.check_ended("finished")


def test_resume_wrong_checkpoint():
    world = World(5, 5, rounds=6)
    world.run(3.0, until_ended=False)
    world.direct(Directions(resumed=frozenset({hash_of(b"x"), world.committed[1]})))
    world.run(world.now + 60)
    world.check_ended("finished")


def test_pingpong():
    world = World(5, 5, rounds=6)
    world.run(2.0, until_ended=False)
    resumed = frozenset()
    for k in range(12):
        world.direct(Directions(stop=f"s{k}", resumed=resumed))
        world.run(world.now + 1.5 + .3 * k, until_ended=False)
        resumed = resumed | {n.machine.ledger.committed.name for n in world.nodes if n.machine.ledger.committed.checkpoint.outcome == "stopped"}
        world.direct(Directions(resumed=resumed))
        world.run(world.now + 1.0, until_ended=False)
    world.run(world.now + 200)
    world.check_ended("finished")
    print(max(world.committed), world.evidence, {m.what for m in world.misbehaved})


def test_extend_million():
    world = World(5, 4, rounds=2)
    world.direct(Directions(rounds=1_000_000))
    world.run(20, until_ended=False)
    print(max(world.committed))
    world.direct(Directions(stop="x", rounds=1_000_000))
    world.run(120)
    world.check_ended("stopped")
