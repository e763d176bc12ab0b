"""The election machine alone under a seeded network that loses, delays, repeats and reorders, with nodes that crash:
thousands of seeds in seconds. docs/protocol.md §7.
"""

import heapq
import os
import random

import pytest
from run_world import IDS, KEYS, RUN

from protocol.keys import NodeId
from protocol.run.context import RunContext
from protocol.run.election import Election, Role
from protocol.run.events import Elected, Persist, RunSettings, Send, SetTimer
from protocol.run.journal import TermRecord, read_record
from protocol.run.messages import Heartbeat, HeartbeatReply, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from protocol.wire import hash_of

SEEDS = int(os.environ.get("SEEDS", "2000"))
FAULTS_UNTIL_S = 40.0
HEARTBEAT_S = 1.0


class Elections:
    """Voters that do nothing but elect; who reigns sends heartbeats. A crash forgets all but what was persisted."""

    def __init__(self, seed: int, voters: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.queue: list[tuple[float, int, int, object]] = []
        self.count = 0
        self.voters = tuple(IDS[:voters])
        self.stored = [(self.random.randrange(3), self.random.randrange(4)) for _ in self.voters]
        self.durable: list[tuple[int, NodeId | None]] = [(0, None)] * voters
        self.votes: dict[tuple[int, int], NodeId] = {}
        self.reigns: dict[int, NodeId] = {}
        self.up: list[Election | None] = [None] * voters
        self.boots = [0] * voters
        self.timers = [-1] * voters
        for index in range(voters):
            self.boot(index)

    def boot(self, index: int) -> None:
        jitter = random.Random(self.random.random()).random
        context = RunContext(IDS[index], KEYS[index], RUN, self.voters, RunSettings(rounds=1), jitter, self.now)
        context.eligible = frozenset(self.voters)
        election = Election(context)
        election.term, election.voted_for = self.durable[index]
        election.stored = self.stored[index]
        self.up[index] = election
        self.boots[index] += 1
        election.begin(fresh=True)
        self.carry_out(index)

    def push(self, after_s: float, index: int, what: object) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + after_s, self.count, index, what))

    def run(self, until_s: float) -> None:
        while self.queue and self.queue[0][0] <= until_s:
            self.now, _, index, what = heapq.heappop(self.queue)
            election = self.up[index]
            if what == "boot":
                self.boot(index)
            elif election is not None:
                election.context.now = self.now
                self.handle(index, election, what)
                self.carry_out(index)
        self.now = until_s

    def handle(self, index: int, election: Election, what: object) -> None:
        match what:
            case ("timer", int(number)) if number == self.timers[index]:
                election.on_timer()
            case ("beat", int(boot), int(term)) if boot == self.boots[index]:
                self.beat(index, election, term)
            case (str(peer), PreVoteRequest() as message):
                election.on_prevote_request(NodeId(peer), message)
            case (str(peer), PreVoteReply() as message):
                election.on_prevote_reply(NodeId(peer), message)
            case (str(peer), VoteRequest() as message):
                election.on_vote_request(NodeId(peer), message)
            case (str(peer), VoteReply() as message):
                election.on_vote_reply(NodeId(peer), message)
            case (str(peer), Heartbeat(term=term)):
                election.hear(NodeId(peer), term)
                reply = HeartbeatReply(run=RUN, term=election.term, committed_round=0, state="W")
                election.context.send(NodeId(peer), reply)
            case (str(), HeartbeatReply(term=term)):
                election.see_term(term)
            case _:
                pass

    def beat(self, index: int, election: Election, term: int) -> None:
        if election.role is not Role.AGGREGATOR or election.term != term:
            return
        heartbeat = Heartbeat(run=RUN, term=term, committed_round=0, committed=hash_of(b""), opened=False, states="")
        election.context.send_all(self.voters, heartbeat)
        self.push(HEARTBEAT_S, index, ("beat", self.boots[index], term))

    def carry_out(self, index: int) -> None:
        election = self.up[index]
        assert election is not None
        outputs, election.context.out = election.context.out, []
        faulty = self.now < FAULTS_UNTIL_S
        for output in outputs:
            if faulty and self.random.random() < 0.003:
                self.up[index] = None  # a crash between any two outputs
                self.push(self.random.uniform(0.5, 10.0), index, "boot")
                return
            match output:
                case Persist(record):
                    self.remember(index, record)
                case Send(peer, message):
                    for _ in range(2 if faulty and self.random.random() < 0.1 else 1):
                        if not (faulty and self.random.random() < 0.15):
                            delay = self.random.uniform(0.01, 1.5 if faulty else 0.2)
                            self.push(delay, IDS.index(peer), (IDS[index], message))
                case SetTimer("election", after_s):
                    self.timers[index] = self.count  # in place of an earlier one
                    self.push(after_s, index, ("timer", self.timers[index]))
                case Elected(term, aggregator) if aggregator is not None:
                    assert self.reigns.setdefault(term, aggregator) == aggregator, f"two aggregators in term {term}"
                    if aggregator == IDS[index]:
                        self.push(0.0, index, ("beat", self.boots[index], term))

    def remember(self, index: int, raw: bytes) -> None:
        record = read_record(raw)
        assert isinstance(record, TermRecord)
        assert record.term >= self.durable[index][0], "a term went back"
        voted_for = NodeId(record.voted_for) if record.voted_for else None
        self.durable[index] = (record.term, voted_for)
        if voted_for is not None:
            assert self.votes.setdefault((index, record.term), voted_for) == voted_for, "a vote changed"

    def check_settled(self) -> None:
        """One reigns, all hear it, and it held what a majority held (§7.7)."""
        reigning = [election for election in self.up if election is not None and election.role is Role.AGGREGATOR]
        assert len(reigning) == 1
        aggregator = reigning[0].context.me
        assert all(election is not None and election.aggregator == aggregator for election in self.up)
        behind = sum(1 for stored in self.stored if stored <= reigning[0].stored)
        assert 2 * behind > len(self.voters)


@pytest.mark.parametrize("part", range(4))
def test_elections_settle_and_never_elect_two(part: int) -> None:
    """§7.1, §7.3, §7.7, §7.10."""
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        world = Elections(seed, (3, 5, 7, 4)[seed % 4])
        world.run(FAULTS_UNTIL_S + 30.0)
        try:
            world.check_settled()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_same_seed_same_reigns() -> None:
    first, second = Elections(5, 5), Elections(5, 5)
    first.run(60.0)
    second.run(60.0)
    assert first.reigns == second.reigns
    assert first.votes == second.votes
