"""Measurements are kept and passed on only of checkpoints that there are: who signs more fills nobody's memory."""

import pytest
from run_world import IDS, KEYS, RUN, World

from protocol.keys import Hash, signature_is_valid
from protocol.run.checkpoint import Report, sign_note
from protocol.run.events import Measured, Received
from protocol.run.history import FALSE_REPORTS_MAX, REPORT_ROUNDS_MAX, believed_reports
from protocol.run.messages import ReportMessage, Reports
from protocol.wire import hash_of


def _report(index: int, round_number: int, samples: int = 1) -> bytes:
    checkpoint: Hash = hash_of(b"any")
    note = Report(
        run=RUN, node=IDS[index], round=round_number, checkpoint=checkpoint, samples=samples, metrics={"accuracy": 1.0}
    )
    return sign_note(KEYS[index], note)


def test_reports_of_rounds_to_come_are_neither_kept_nor_told() -> None:
    world = World(1, 4, rounds=50)
    world.run(8.0, until_ended=False)
    for node in world.nodes:
        assert node.machine is not None
        machine = node.machine
        kept = len(machine.reign.reports) if machine.reign else 0
        for ahead in range(100, 400):
            raw = _report(2, ahead)
            for message in (ReportMessage(run=RUN, report=raw), Reports(run=RUN, reports=(raw,))):
                outputs = machine.step(Received(IDS[2], message), world.now)
                assert not any(isinstance(output, Measured) for output in outputs)
        assert not machine.reign or len(machine.reign.reports) == kept
    assert any(node.machine and node.machine.reign for node in world.nodes)


def test_reports_of_committed_rounds_are_told() -> None:
    world = World(1, 4, rounds=50)
    world.run(8.0, until_ended=False)
    machine = next(node.machine for node in world.nodes if node.machine and not node.machine.reign)
    assert machine.ledger.committed_round >= 1
    aggregator = machine.election.aggregator
    assert aggregator is not None
    outputs = machine.step(Received(aggregator, Reports(run=RUN, reports=(_report(2, 1),))), world.now)
    assert any(isinstance(output, Measured) for output in outputs)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures that are looked at: what a message costs."""
    seen: list[bytes] = []

    def counted(public_key: bytes, signed: bytes, signature: bytes) -> bool:
        seen.append(signature)
        return signature_is_valid(public_key, signed, signature)

    monkeypatch.setattr("protocol.signing.signature_is_valid", counted)
    return seen


def test_of_many_reports_of_one_node_and_round_one_signature_is_looked_at(checked: list[bytes]) -> None:
    world = World(1, 4, rounds=50)
    world.run(8.0, until_ended=False)
    machine = next(node.machine for node in world.nodes if node.machine and not node.machine.reign)
    aggregator = machine.election.aggregator
    assert aggregator is not None
    many = tuple(_report(2, 1, samples) for samples in range(1, 300))
    checked.clear()
    outputs = machine.step(Received(aggregator, Reports(run=RUN, reports=many)), world.now)
    assert [output.reports for output in outputs if isinstance(output, Measured)] == [many[:1]]
    assert len(checked) <= 2


def test_reports_of_long_gone_rounds_cost_nothing_and_are_not_kept(checked: list[bytes]) -> None:
    world = World(1, 4, rounds=200)
    world.run(60.0, until_ended=False)
    for node in world.nodes:
        machine = node.machine
        assert machine is not None
        assert machine.ledger.newest_round > REPORT_ROUNDS_MAX + 5
        old = tuple(_report(2, number, 7) for number in range(machine.ledger.newest_round - REPORT_ROUNDS_MAX))
        kept = len(machine.reign.reports) if machine.reign else 0
        checked.clear()
        assert machine.election.aggregator is not None
        outputs = machine.step(Received(machine.election.aggregator, Reports(run=RUN, reports=old)), world.now)
        assert not checked
        for raw in old:
            outputs += machine.step(Received(IDS[2], ReportMessage(run=RUN, report=raw)), world.now)
        assert not any(isinstance(output, Measured) for output in outputs)
        assert not machine.reign or len(machine.reign.reports) == kept


def test_of_a_commit_that_was_passed_over_no_report_is_looked_at(checked: list[bytes]) -> None:
    world = World(1, 4, rounds=200)
    world.run(8.0, until_ended=False)
    machine = next(node.machine for node in world.nodes if node.machine and not node.machine.reign)
    old = machine.ledger.newest_commit()
    assert old is not None
    world.run(world.now + 8.0, until_ended=False)
    assert old.round < machine.ledger.committed_round < old.round + REPORT_ROUNDS_MAX
    many = tuple(_report(2, old.round, samples) for samples in range(500, 600))
    checked.clear()
    outputs = machine.step(Received(IDS[2], old.model_copy(update={"reports": many})), world.now)
    assert not checked
    assert not any(isinstance(output, Measured) for output in outputs)


def test_last_reports_are_taken_from_the_aggregator_alone() -> None:
    """§8.9: nobody else closes a run, nor tells figures this way."""
    world = World(1, 4, rounds=50)
    world.run(8.0, until_ended=False)
    machine = next(node.machine for node in world.nodes if node.machine and not node.machine.reign)
    for sender in IDS[:6]:
        outputs = machine.step(Received(sender, Reports(run=RUN, reports=(_report(2, 1),))), world.now)
        is_told = any(isinstance(output, Measured) for output in outputs)
        assert is_told == (sender == machine.election.aggregator)


def test_of_false_signatures_some_are_looked_at(checked: list[bytes]) -> None:
    world = World(1, 4, rounds=50)
    world.run(8.0, until_ended=False)
    machine = next(node.machine for node in world.nodes if node.machine and not node.machine.reign)
    committed = machine.ledger.committed
    assert committed is not None
    at = committed.checkpoint.round
    false = tuple(_report(2, at, samples)[:-1] + b"\x00" for samples in range(1, 1000))
    checked.clear()
    believed_reports(false, committed.name, committed.checkpoint)
    assert len(checked) == FALSE_REPORTS_MAX
