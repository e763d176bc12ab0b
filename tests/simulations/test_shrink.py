"""Shrinking: of many faults, those that matter are left; and the command says it all."""

import random
from pathlib import Path

import pytest
from scenario_helpers import fault, small

from simulations.outcome import Simulation, Wish
from simulations.plan.faults import plan_faults
from simulations.play import play
from simulations.shrink import Minimum, shrink
from simulations.world.disk import SimulatedDisk


@pytest.mark.parametrize("needed", [{3}, {3, 17}, {0, 1, 2}, set(range(20))])
def test_the_fewest_that_fail_are_found(needed: set[int]) -> None:
    shortest = Minimum(list(range(20)), tries_max=500)
    while (trial := shortest.next()) is not None:
        shortest.answer(needed <= set(trial))
    assert set(shortest.best) == needed


def test_tries_are_bounded() -> None:
    source, shortest, tries = random.Random(1), Minimum(list(range(500)), tries_max=30), 0
    while shortest.next() is not None:
        tries += 1
        shortest.answer(source.random() < 0.3)
    assert tries == 30


def test_a_planted_bug_is_shrunk_to_the_one_fault_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SimulatedDisk.crash

    def crash(self: SimulatedDisk) -> None:
        honest(self)
        for name, journal in self._journals.items():
            if name.startswith("run-"):
                del journal.records[-1:]

    monkeypatch.setattr(SimulatedDisk, "crash", crash)
    noise = "".join(fault("cut", at_s=0.5 + 0.5 * n, for_s=2) for n in range(4))
    noise += fault("slow-disk", node="node-1", at_s=1, for_s=3, value=0.2) + fault("freeze", at_s=2, for_s=2)
    read = small(noise + fault("kill", node="node-2", at_s=3, for_s=2) + fault("isolate", at_s=1, for_s=3), rounds=12)
    found = play(read, 5, 1)
    assert found.violation is not None
    shrunk = shrink(read, 5, 1, found)
    assert [one.kind for one in shrunk.faults] == ["kill"]
    assert shrunk.read.rounds < 12
    planned = plan_faults(read.scenario, 5, 12, 1)
    assert [planned[number] for number in shrunk.numbers] == list(shrunk.faults)
    wish = Wish("small.toml", 5, None, 1)
    text = Simulation(wish, read, 5, found, (), shrunk).text(Path("s.duckdb"))
    assert "VIOLATED: nothing durable is lost" in text
    assert f"--faults {shrunk.numbers[0]}" in text
    assert "what happened last, by node:" in text
    assert "node-2  <- here" in text
