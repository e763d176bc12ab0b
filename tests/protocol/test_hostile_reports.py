"""Measurements are kept and passed on only of checkpoints that there are: who signs more fills nobody's memory."""

from run_world import IDS, KEYS, RUN, World

from protocol.checkpoint import Report, sign_note
from protocol.keys import Hash
from protocol.run_events import Measured, Received
from protocol.run_messages import ReportMessage, Reports
from protocol.wire import hash_of


def _report(index: int, round_number: int) -> bytes:
    checkpoint: Hash = hash_of(b"any")
    note = Report(
        run=RUN, node=IDS[index], round=round_number, checkpoint=checkpoint, samples=1, metrics={"accuracy": 1.0}
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
    outputs = machine.step(Received(IDS[2], Reports(run=RUN, reports=(_report(2, 1),))), world.now)
    assert any(isinstance(output, Measured) for output in outputs)
