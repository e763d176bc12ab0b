"""How a run closes after its last checkpoint, docs/protocol.md §8.9 and §8.10: nobody is waited for in vain."""

from run_world import IDS, RUN, SimNode, World

from protocol.run.events import Committed, Ended, Evaluate, Evaluated, ParticipantState, Received, RunOutput
from protocol.run.messages import Heartbeat, HeartbeatReply
from protocol.run.reign import CLOSING_S

SOON_S = 3.0  # a few heartbeats


class Closing(World):
    """Notes when each node commits the last checkpoint and when it ends; who is `blind` has nothing to measure on."""

    blind: frozenset[int] = frozenset()

    def __init__(self, seed: int, nodes: int) -> None:
        self.committed_at: dict[int, float] = {}
        self.ended_at: dict[int, float] = {}
        super().__init__(seed, nodes)

    def carry_out(self, node: SimNode, output: RunOutput) -> None:
        match output:
            case Evaluate(name, checkpoint) if node.index in self.blind:
                self._push(self.now + 0.05, node.index, Evaluated(checkpoint.round, name, 0, {}))
                return
            case Committed(_, checkpoint, _) if checkpoint.outcome:
                self.committed_at[node.index] = self.now
            case Ended():
                self.ended_at[node.index] = self.now
        super().carry_out(node, output)

    def closing_s(self, index: int) -> float:
        return self.ended_at[index] - self.committed_at[index]


def test_who_has_nothing_to_measure_is_not_waited_for() -> None:
    for blind in (frozenset({1}), frozenset(range(4))):
        world = Closing(3, 4)
        world.blind = blind
        world.run(200)
        assert len(world.ended_at) == 4
        assert max(world.closing_s(index) for index in range(4)) < SOON_S
        assert len({report for _, report in world.measured}) == 4 * (4 - len(blind))  # of rounds 0 to 3, none is lost


def _late(world: Closing) -> None:
    """Node 3 is away from the first commit on, until all others have ended."""
    world.run(1.0, until_ended=False)
    world.crash(world.nodes[3], 100.0)
    world.run(100.0, until_ended=False)
    assert len(world.ended_at) == 3


def test_one_who_comes_when_all_is_over_does_not_wait_for_reports() -> None:
    world = Closing(3, 4)
    _late(world)
    world.run(200.0)
    assert world.closing_s(3) < SOON_S


def test_a_belated_heartbeat_does_not_keep_it_waiting() -> None:
    """What was said to it while it was away may still arrive; then it waits for the aggregator no longer than ever."""
    world = Closing(3, 4)
    _late(world)
    aggregator = next(node for node in world.nodes if node.machine is not None and node.machine.reign is not None)
    assert aggregator.machine is not None
    belated = Heartbeat(
        run=RUN,
        term=aggregator.machine.election.term,
        committed_round=2,
        committed="ab" * 32,
        opened=True,
        states="WWWL",
    )
    world._push(101.0, 3, Received(IDS[aggregator.index], belated))
    world.run(200.0)
    assert world.closing_s(3) < 2 * world.settings.election_timeout_s + SOON_S < CLOSING_S


def test_what_was_said_of_anybody_before_the_end_counts_no_more_after_it() -> None:
    """§8.9: by who has ended before its aggregator has, and by an aggregator whom an answer reaches late."""
    world = Closing(3, 4)
    world.run(200.0)
    world.check_ended("finished")
    machines = {IDS[node.index]: node.machine for node in world.nodes if node.machine is not None}
    reigning, reign = next((peer, each.reign) for peer, each in machines.items() if each.reign is not None)
    for peer, machine in machines.items():
        committed, term = machine.ledger.committed, machine.election.term
        assert committed is not None
        if peer == reigning:
            reign.letters[IDS[3]] = "L"
            reply = HeartbeatReply(run=RUN, term=term, committed_round=committed.checkpoint.round, state="U")
            said = [Received(other, reply) for other in machines if other != peer]
        else:
            beat = Heartbeat(
                run=RUN,
                term=term,
                committed_round=committed.checkpoint.round,
                committed=committed.name,
                opened=True,
                states="TUWR",
            )
            said = [Received(reigning, beat)]
        outputs = [output for event in said for output in machine.step(event, world.now)]
        assert not [output for output in outputs if isinstance(output, ParticipantState)]
