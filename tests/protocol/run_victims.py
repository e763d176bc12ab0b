"""One honest node of a real run, taken out of its world: what it hears from then on, a test says.

`Victim` is a voter that is lied to, `Gatherer` an aggregator to whom updates are offered.
"""

from typing import Any

from run_world import IDS, KEYS, RUN, World

from protocol.keys import Hash, NodeId
from protocol.run.checkpoint import Ack, Checkpoint, Issue, Offer, UpdateEntry, checkpoint_name, open_offer, sign_note
from protocol.run.events import (
    Began,
    Collect,
    Collected,
    Committed,
    Misbehaved,
    Obtain,
    Obtained,
    Persist,
    Received,
    RunEvent,
    RunOutput,
)
from protocol.run.machine import RunMachine
from protocol.run.messages import Acknowledgement, Commit, OfferMessage, Proposal, VotersChanged
from protocol.wire import hash_of

NODES = 4
OUTSIDER = 20  # has a key and no part in the run


class Victim:
    """A voter of a real run, some rounds in, cut off from its world: what it now hears, this test says."""

    def __init__(self, **settings: Any) -> None:
        world = World(31, NODES, rounds=40, **settings)
        world.run(5.0, until_ended=False)
        self.now = world.now
        self.aggregator = IDS.index(world.reigns[1])
        node = world.nodes[(self.aggregator + 1) % NODES]
        assert node.machine is not None
        self.machine: RunMachine = node.machine
        ledger = self.machine.ledger
        while self.machine.intake.has_proposal or ledger.stored.checkpoint.round > ledger.committed_round:
            # An honest checkpoint for the same round would make two.
            world.run(world.now + 0.1, until_ended=False)
        self.now = world.now
        self.me = node.index
        self.world = world
        self.journal = list(node.journal)
        assert self.machine.ledger.committed is not None
        self.committed = self.machine.ledger.committed
        assert self.committed.checkpoint.round >= 1
        self.machine.participation.receipts.clear()  # that its own update is left out is another test's matter

    def step(self, event: RunEvent) -> list[RunOutput]:
        outputs = self.machine.step(event, self.now)
        self.journal += [output.record for output in outputs if isinstance(output, Persist)]
        return outputs

    def restart(self) -> None:
        """It was killed, and is back with what was durable."""
        node = self.world.nodes[self.me]
        node.journal = self.journal
        self.world.boot(node)
        assert node.machine is not None
        self.machine = node.machine
        self.step(Began())

    def next_checkpoint(self, **changes: Any) -> Checkpoint:
        """The honest one after the committed one, but for `changes`."""
        base = self.committed.checkpoint
        number = base.round + 1
        update = {
            "round": number,
            "previous": self.committed.name,
            "maker": IDS[self.aggregator],
            "made_in_term": 1,
            "model": hash_of(b"forged model"),
            "updates": (self.entry(0), self.entry(1)),
            **changes,
        }
        return base.model_copy(update=update)

    def entry(self, index: int, weight: int = 10, refused: str = "", **changes: Any) -> UpdateEntry:
        number = self.committed.checkpoint.round + 1
        return UpdateEntry(
            offer=signed_offer(index, number, self.committed.name, **changes), weight=weight, refused=refused, reason=""
        )

    def offer_in(self, checkpoint: Checkpoint, index: int) -> bytes:
        """The offer of node `index` that a checkpoint lists."""
        offers = [entry.offer for entry in checkpoint.updates]
        return next(raw for raw in offers if open_offer(raw).body.node == IDS[index])

    def acknowledges(self, checkpoint: Checkpoint, *, term: int = 1, issuer: int | None = None) -> bool:
        """Whether the victim acknowledges `checkpoint`, proposed by the aggregator and obtained whole."""
        peer = IDS[self.aggregator]
        name = checkpoint_name(checkpoint)
        issue = Issue(run=RUN, term=term, round=checkpoint.round, checkpoint=name)
        proposal = Proposal(
            run=RUN,
            issue=sign_note(KEYS[self.aggregator if issuer is None else issuer], issue),
            checkpoint=sign_note(KEYS[IDS.index(NodeId(checkpoint.maker))], checkpoint),
        )
        outputs = self.step(Received(peer, proposal)) + self.step(Obtained(name, True))
        acknowledged = any(isinstance(getattr(output, "message", None), Acknowledgement) for output in outputs)
        misbehaved = [output.peer for output in outputs if isinstance(output, Misbehaved)]
        assert misbehaved == ([] if acknowledged else [peer])
        return acknowledged


def signed_offer(index: int, number: int, base_name: str, **changes: Any) -> bytes:
    body = {
        "run": RUN,
        "node": IDS[index],
        "round": number,
        "base": base_name,
        "update": hash_of(f"update of {index}".encode()),
        "update_bytes": 9,
        "samples": 10,
        "codec": "fp32",
        "metrics": {},
        **changes,
    }
    return sign_note(KEYS[index], Offer(**body))


def ack(index: int, number: int, name: str, term: int = 1, **changes: Any) -> bytes:
    body = {"run": RUN, "term": term, "round": number, "checkpoint": name, "node": IDS[index], **changes}
    return sign_note(KEYS[index], Ack(**body))


def commits(
    victim: Victim, checkpoint: Checkpoint, acks: tuple[bytes, ...], changes: tuple[VotersChanged, ...] = ()
) -> bool:
    """Whether the victim takes a commit for final; any node may bring it."""
    raw = sign_note(KEYS[IDS.index(NodeId(checkpoint.maker))], checkpoint)
    commit = Commit(run=RUN, round=checkpoint.round, checkpoint=raw, acks=acks, changes=changes, reports=())
    outputs = victim.step(Received(IDS[OUTSIDER], commit))
    if any(isinstance(output, Misbehaved) for output in outputs):
        assert not any(isinstance(output, Obtain | Committed) for output in outputs)
    outputs += victim.step(Obtained(checkpoint_name(checkpoint), True))
    return any(isinstance(output, Committed) for output in outputs)


class Gatherer:
    """An aggregator whose round 1 waits for updates: its world's own training has all failed."""

    def __init__(self, **settings: float) -> None:
        world = World(32, NODES, rounds=5, **settings)
        for node in world.nodes:
            node.failed_training = True
        world.run(5.0, until_ended=False)
        self.now = world.now
        self.me = IDS.index(world.reigns[1])
        machine = world.nodes[self.me].machine
        assert machine is not None
        assert machine.reign is not None
        assert machine.reign.gathering is not None
        self.machine = machine
        self.base: Hash = machine.reign.gathering.base.name
        self.trainers = [IDS.index(node) for node in sorted(machine.reign.gathering.trainers)]
        self.others = [index for index in self.trainers if index != self.me]

    def offer(self, peer: int, raw: bytes) -> list[RunOutput]:
        return self.machine.step(Received(IDS[peer], OfferMessage(run=RUN, offer=raw)), self.now)

    def good(self, index: int, **changes: Any) -> bytes:
        return signed_offer(index, 1, self.base, **changes)

    def deliver(self, index: int) -> list[RunOutput]:
        outputs = self.offer(index, self.good(index))
        (collect,) = [output for output in outputs if isinstance(output, Collect)]
        return self.machine.step(Collected(collect.name), self.now)


def collected(outputs: list[RunOutput]) -> list[str]:
    return [output.offer.node for output in outputs if isinstance(output, Collect)]
