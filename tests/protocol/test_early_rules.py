"""Who is asked for an update that is still coded: who is waited for, once in a round. docs/protocol.md §8.29."""

from typing import Any

import pytest
from run_victims import OUTSIDER, Gatherer
from run_world import IDS, RUN, World

from protocol.keys import Hash
from protocol.run.checkpoint import UpdateEntry
from protocol.run.early import early_name
from protocol.run.events import CodingBegan, Combine, FetchEarly, Received, RunOutput, Send
from protocol.run.messages import EarlyMessage
from protocol.wire import hash_of


def asked(outputs: list[RunOutput]) -> list[FetchEarly]:
    return [output for output in outputs if isinstance(output, FetchEarly)]


def says(gatherer: Gatherer, peer: str, **changes: Any) -> list[FetchEarly]:
    body = {"run": RUN, "round": 1, "base": gatherer.base, **changes}
    return asked(gatherer.machine.step(Received(peer, EarlyMessage(**body)), gatherer.now))  # type: ignore[arg-type]


def test_who_is_waited_for_is_asked_once() -> None:
    """§8.29: by the name that follows from run, round, base and node; and who has offered is not asked any more."""
    gatherer = Gatherer()
    first, second, *_ = gatherer.others
    (wanted,) = says(gatherer, IDS[first])
    assert (wanted.node, wanted.learned_from) == (IDS[first], gatherer.base)
    assert wanted.name == early_name(RUN, 1, gatherer.base, IDS[first])
    assert not says(gatherer, IDS[first])
    gatherer.offer(second, gatherer.good(second))
    assert not says(gatherer, IDS[second])


@pytest.mark.parametrize("wrong", [{"round": 0}, {"round": 2}, {"base": hash_of(b"another")}])
def test_other_rounds_and_bases_are_not_asked_for(wrong: dict[str, Any]) -> None:
    """§8.29. What was asked for in vain may still be said rightly."""
    gatherer = Gatherer()
    peer = IDS[gatherer.others[0]]
    assert not says(gatherer, peer, **wrong)
    assert says(gatherer, peer)


def test_who_does_not_train_or_lied_is_not_asked() -> None:
    """§8.29, §8.16."""
    gatherer = Gatherer()
    assert not says(gatherer, OUTSIDER)
    liar = IDS[gatherer.others[0]]
    gatherer.machine.context.deposed[liar] = "two checkpoints"
    assert not says(gatherer, liar)
    chosen = IDS[gatherer.others[1]]
    assert gatherer.machine.reign is not None
    assert gatherer.machine.reign.gathering is not None
    gatherer.machine.reign.gathering.trainers -= {chosen}
    assert not says(gatherer, chosen)


def test_nobody_is_asked_while_the_others_are_combined() -> None:
    """§8.29."""
    gatherer = Gatherer()
    first, second, *_ = gatherer.others
    assert any(isinstance(output, Combine) for output in gatherer.deliver(first)), "all others have failed"
    assert not says(gatherer, IDS[second])


def test_what_comes_early_is_kept_for_the_round_that_is_gathered() -> None:
    """§8.29: not for another one, not for a node whose update is settled, and not while the others are combined."""
    gatherer = Gatherer()
    first, second, *_ = gatherer.others
    assert gatherer.machine.reign is not None
    gathering = gatherer.machine.reign.gathering
    assert gathering is not None
    assert gathering.early_bytes_are_of_use(IDS[second], gatherer.base)
    assert not gathering.early_bytes_are_of_use(IDS[second], hash_of(b"another"))
    gathering.refused[IDS[first]] = UpdateEntry(offer=b"", weight=0, refused="no-samples", reason="")
    assert not gathering.early_bytes_are_of_use(IDS[first], gatherer.base)
    gathering.combining = True
    assert not gathering.early_bytes_are_of_use(IDS[second], gatherer.base)


def test_who_aggregates_nothing_asks_for_nothing() -> None:
    gatherer = Gatherer()
    gatherer.machine.reign = None
    gatherer.machine.election.step_down()
    assert not says(gatherer, IDS[gatherer.others[0]])


def told(world: World, index: int, base: Hash, round_number: int) -> list[Send]:
    machine = world.nodes[index].machine
    assert machine is not None
    outputs = machine.step(CodingBegan(round_number, base), world.now)
    return [each for each in outputs if isinstance(each, Send) and isinstance(each.message, EarlyMessage)]


def test_a_participant_tells_who_aggregates_of_the_round_under_way_alone() -> None:
    """§8.29: nobody where nobody aggregates, nor itself, nor of a base that is not the newest."""
    world = World(3, 4, rounds=9)
    world.run(4.0, until_ended=False)
    machines = [node.machine for node in world.nodes]
    assert machines[0] is not None
    aggregator, committed = machines[0].election.aggregator, machines[0].ledger.committed
    assert aggregator is not None
    assert committed is not None
    me = IDS.index(aggregator)
    other = next(index for index in range(4) if index != me)
    (message,) = told(world, other, committed.name, committed.checkpoint.round + 1)
    assert message.peer == aggregator
    assert message.message == EarlyMessage(run=RUN, round=committed.checkpoint.round + 1, base=committed.name)
    assert not told(world, me, committed.name, committed.checkpoint.round + 1)
    assert not told(world, other, Hash(committed.checkpoint.previous), committed.checkpoint.round)
    machine = machines[other]
    assert machine is not None
    machine.election.aggregator = None
    assert not told(world, other, committed.name, committed.checkpoint.round + 1)
