"""A member of a run says anything to the others, at odd moments: no node ends, no run fails on it, all end alike."""

from pathlib import Path
from random import Random

import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.api.service.service import LogsQuery, MetricsQuery
from node.network.links import RUN_CHANNEL
from protocol.keys import RunId
from protocol.run.checkpoint import Ack, Checkpoint, Issue, Offer, Ready, Receipt, Report, UpdateEntry, sign_note
from protocol.run.machine import RunMachine
from protocol.run.messages import (
    Acknowledgement,
    AskCommit,
    Commit,
    Heartbeat,
    HeartbeatReply,
    OfferMessage,
    PreVoteReply,
    PreVoteRequest,
    Proposal,
    ReadyMessage,
    ReceiptMessage,
    RefusalMessage,
    ReportMessage,
    Reports,
    RunMessage,
    VoteReply,
    VoteRequest,
)
from protocol.wire import hash_of, pack

SAYINGS = 400
NAME = "\x1b[2J\u202e[/]\n{}"  # that a terminal, a log and a store must bear
METRIC = "[/]{}'\"\\%s"  # as far as names of metrics go


class Liar:
    """Makes messages that are well formed and well signed by one member, and false."""

    def __init__(self, life: Life, run: RunId, random: Random) -> None:
        self._life = life
        self._run = run
        self._random = random
        self._me = life.node.identity.node_id

    @property
    def _machine(self) -> RunMachine:
        driver = self._life.node.runs.known[self._run].driver
        assert driver is not None
        return driver.machine

    def _hash(self) -> str:
        newest = self._machine.ledger.newest
        return self._random.choice(
            [newest.model, newest.tensor_schema, hash_of(b"nothing"), newest.previous or "0" * 64]
        )

    def _number(self) -> int:
        machine = self._machine
        near = [machine.election.term, machine.ledger.committed_round, 0]
        return max(0, self._random.choice([*(value + self._random.randint(-1, 2) for value in near), 10_000_000]))

    def _offer(self) -> Offer:
        return Offer(
            run=self._run,
            node=self._me,
            round=self._number(),
            base=self._random.choice([self._machine.ledger.newest.previous or "0" * 64, self._hash()]),
            update=self._hash(),
            update_bytes=self._random.choice([0, 1, 2**40]),
            samples=self._random.choice([0, 1, 2**53]),
            codec=NAME,
            metrics={METRIC: 1e308, "loss": -1e308},
        )

    def _checkpoint(self) -> Checkpoint:
        newest = self._machine.ledger.newest
        entry = UpdateEntry(
            offer=self._sign(self._offer()), weight=self._random.choice([0, 1]), refused="", reason=NAME
        )
        changes = {
            "round": newest.round + self._random.choice([0, 1, 1, 1, 2]),
            "previous": self._hash(),
            "maker": self._me,
            "model": self._hash(),
            "difference": self._random.choice(["", self._hash()]),
            "server_state": self._random.choice(["", self._hash()]),
            "updates": self._random.choice([(), (entry,), (entry, entry)]),
            "exponents": (-(2**40),),
            "outcome": self._random.choice(["", "finished", "failed"]),
            "reason": NAME,
        }
        chosen = {key: value for key, value in changes.items() if self._random.random() < 0.7 or key == "maker"}
        return newest.model_copy(update=chosen)

    def _sign(self, note: object) -> bytes:
        return sign_note(self._life.key, note)  # type: ignore[arg-type]

    def message(self) -> RunMessage:
        run, term = self._run, self._number()
        checkpoint = self._checkpoint()
        name = hash_of(pack(checkpoint))
        ack = self._sign(Ack(run=run, term=term, round=checkpoint.round, checkpoint=name, node=self._me))
        issue = self._sign(Issue(run=run, term=term, round=checkpoint.round, checkpoint=name))
        report = self._sign(
            Report(
                run=run, node=self._me, round=self._number(), checkpoint=name, samples=2**53, metrics={METRIC: 1e308}
            )
        )
        ready = self._sign(Ready(run=run, node=self._me, role="trainer", data_fingerprint=NAME, capacity_class=7))
        states = "".join(self._random.choices("RTUWLFXz\x1b", k=self._random.choice([0, 4, 4096])))
        rest = {"run": run, "term": term, "stored_term": self._number(), "stored_round": self._number()}
        raw = self._sign(checkpoint)
        return self._random.choice(
            [
                lambda: Proposal(run=run, issue=issue, checkpoint=raw),
                lambda: Commit(run=run, round=checkpoint.round, checkpoint=raw, acks=(ack,) * 31, reports=(report,)),
                lambda: Heartbeat(
                    run=run, term=term, committed_round=self._number(), committed=name, opened=True, states=states
                ),
                lambda: HeartbeatReply(run=run, term=term, committed_round=self._number(), state="\x1b"),
                lambda: Acknowledgement(run=run, ack=ack),
                lambda: AskCommit(run=run, have_round=self._number()),
                lambda: OfferMessage(run=run, offer=self._sign(self._offer())),
                lambda: ReceiptMessage(
                    run=run,
                    receipt=self._sign(Receipt(run=run, term=term, round=self._number(), node=self._me, offer=name)),
                ),
                lambda: RefusalMessage(
                    run=run, term=term, offer=name, code="norm-too-large", reason=self._random.choice(["", METRIC])
                ),
                lambda: ReportMessage(run=run, report=report),
                lambda: Reports(run=run, reports=(report, report)),
                lambda: ReadyMessage(run=run, ready=ready),
                lambda: PreVoteRequest(**rest),
                lambda: PreVoteReply(run=run, term=term, granted=True),
                lambda: VoteRequest(**rest),
                lambda: VoteReply(run=run, term=term, granted=True),
            ]
        )()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_member_that_says_anything_breaks_nothing(tmp_path: Path, seed: int) -> None:
    async def main(ground: HostileGround) -> None:
        *honest, hostile = await ground.group(4)
        run = await ground.propose(honest[0], nodes=4, rounds=12)

        def is_going_on() -> bool:
            known = [life.node.runs.known.get(run) for life in ground.lives]
            return all(each is not None and each.driver is not None for each in known)

        await ground.settled(is_going_on, "the run goes on")
        random = Random(seed)
        liar = Liar(hostile, run, random)
        for _ in range(SAYINGS):
            payload = random.randbytes(40) if random.random() < 0.05 else pack(liar.message())
            channel = random.choices([RUN_CHANNEL, "sync", "nothing"], [0.96, 0.02, 0.02])[0]
            for life in honest:
                hostile.node.links.send(life.node.identity.node_id, channel, payload)
            await trio.sleep(random.choice([0.0, 0.0, 0.05, 0.3]))  # virtual time passes
        alive(*honest)
        hostile.scope.cancel()
        await hostile.ended.wait()
        known = await ground.ended(run, honest)
        alive(*honest)
        assert len({each.driver.machine.ledger.committed.name for each in known}) == 1
        for life in honest:
            await life.node.service.run(run)
            await life.node.service.curves.metrics(run, MetricsQuery())
            await life.node.service.logs(run, LogsQuery())

    on_hostile_ground(tmp_path, main)
