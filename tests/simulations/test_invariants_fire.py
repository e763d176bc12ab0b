"""Every invariant is proven by a group that breaks it: code that is broken on purpose, and the checker's word."""

from itertools import count
from typing import Any

import pytest
from scenario_helpers import fault, played

from node.network.door import Door
from node.run.round_blobs import RoundBlobs
from protocol.run.election import Election
from protocol.run.ledger import Ledger
from protocol.run.machine import RunMachine
from protocol.run.news import News
from protocol.run.participation import Participation
from protocol.run.reign import Reign
from simulations.play import Played
from simulations.world.disk import SimulatedDisk

Patch = pytest.MonkeyPatch

# Elections in which several stand at once: all wait alike.
HASTE = "[run.timing]\nrank_step_s = 0.01\n"
KILL_AGGREGATOR = fault("kill", node="aggregator", phase="received", round=2, for_s=10)


def rule_of(found: Played) -> str:
    assert found.violation is not None, "nothing was noticed"
    assert found.last, "a violation is told with what happened last"
    return found.violation.rule


def test_an_honest_group_violates_nothing() -> None:
    assert played(KILL_AGGREGATOR).violation is None


def test_a_vote_that_changes_is_noticed(monkeypatch: Patch) -> None:
    def may_vote_for(self: Election, peer: str, message: Any) -> bool:
        return bool(message.term == self.term)

    monkeypatch.setattr(Election, "_may_vote_for", may_vote_for)
    found = [played(HASTE + KILL_AGGREGATOR, seed=seed) for seed in range(1, 4)]
    assert "votes never change" in [one.violation.rule for one in found if one.violation]


def test_a_vote_that_may_be_forgotten_is_noticed(monkeypatch: Patch) -> None:
    def vote_for(self: Election, node: str) -> None:
        self.voted_for = node  # type: ignore[assignment]

    monkeypatch.setattr(Election, "_vote_for", vote_for)
    assert rule_of(played()) == "persist before send"


def test_two_aggregators_in_a_term_are_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Election, "_has_majority", lambda self: True)
    found = played(HASTE + KILL_AGGREGATOR)
    assert rule_of(found) in ("elected by a majority", "one aggregator a term")


def test_a_commit_without_a_majority_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Reign, "is_committed", lambda self: self.proposed is not None and len(self.acks) > 1)
    assert rule_of(played()) == "every commit has its certificate"


def test_an_acknowledgement_that_may_be_forgotten_is_noticed(monkeypatch: Patch) -> None:
    def store(self: Ledger, term: int, held: Any, issue: bytes) -> None:
        self._became_durable(held)
        self.stored, self.stored_term = held, term
        self._follow_voters()

    monkeypatch.setattr(Ledger, "store", store)
    assert rule_of(played()) == "persist before send"


def test_an_aggregator_without_the_newest_commit_is_noticed(monkeypatch: Patch) -> None:
    """Two nodes miss commits behind a cut; of those who have them one is left when the two come back, and stand."""
    monkeypatch.setattr(Election, "_is_up_to_date", lambda self, term, number: True)
    monkeypatch.setattr(News, "seek", lambda self: None)
    timing = HASTE + "heartbeat_s = 0.3\nelection_timeout_s = 2\nlost_after_s = 1\n"
    cut_off = "".join(fault("isolate", node=f"node-{n}", at_s=0.7, for_s=20) for n in (0, 1))
    killed = "".join(fault("kill", node=f"node-{n}", at_s=9, for_s=60) for n in (3, 4))
    found = (played(timing + cut_off + killed, rounds=30, seed=seed) for seed in (31, 34, *range(40, 80)))
    assert any(one.violation is not None and one.violation.rule == "no commit is lost" for one in found)


def test_a_journal_that_loses_what_it_had_is_noticed(monkeypatch: Patch) -> None:
    honest = SimulatedDisk.crash

    def crash(self: SimulatedDisk) -> None:
        honest(self)
        for name, journal in self._journals.items():
            if name.startswith("run-"):
                del journal.records[-1:]

    monkeypatch.setattr(SimulatedDisk, "crash", crash)
    assert rule_of(played(KILL_AGGREGATOR)) == "nothing durable is lost"


def test_a_second_update_from_one_base_is_noticed(monkeypatch: Patch) -> None:
    """A node that forgets its offer when it is restarted trains again, and what it learns then is something else."""
    monkeypatch.setattr(Participation, "restore_offer", lambda self, raw, offer: None)
    calls = count()

    def falsified(update: bytes, *words: object) -> bytes:
        return bytes([next(calls) % 256]) + update[1:]

    monkeypatch.setattr("simulations.faults.liars.falsified", falsified)
    restless = '[[cohort]]\nname = "restless"\ncount = 3\nlies = "noise"\n'
    killed = "".join(fault("kill", node=f"node-{n}", phase="received", round=2, after_s=0.2, for_s=0.4) for n in (2, 3))
    found = played(restless + killed, rounds=3, cohorts=False)
    assert rule_of(found) == "one update a round"


def test_a_run_that_stands_still_is_noticed(monkeypatch: Patch) -> None:
    honest = Reign.combine_if_ready

    def combine_if_ready(self: Reign) -> None:
        if self.gathering is None or self.gathering.round < 3:
            honest(self)

    monkeypatch.setattr(Reign, "combine_if_ready", combine_if_ready)
    found = played()
    assert rule_of(found) == "progress"
    assert found.violation is not None
    assert "after round 2" in found.violation.what


def test_a_node_that_never_learns_of_the_end_is_noticed(monkeypatch: Patch) -> None:
    honest = RunMachine._on_commit

    def on_commit(self: RunMachine, peer: str, message: Any) -> None:
        if message.round < 4 or self.context.me not in sorted(self.ledger.roster())[:1]:
            honest(self, peer, message)  # type: ignore[arg-type]

    monkeypatch.setattr(RunMachine, "_on_commit", on_commit)
    found = [played(seed=seed) for seed in (1, 2)]  # in one of them the deaf one is not the aggregator
    assert "convergence" in [one.violation.rule for one in found if one.violation]


def test_bytes_of_a_stranger_are_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Door, "knock", lambda self, peer: True)
    assert rule_of(played(rounds=20, strangers=2)) == "no bytes from outsiders"


def test_strangers_are_not_let_in() -> None:
    assert played(rounds=20, strangers=2).violation is None


def test_blobs_that_pile_up_are_noticed(monkeypatch: Patch) -> None:
    async def stay(self: RoundBlobs, blob: str) -> None:
        self._passing.discard(blob)

    monkeypatch.setattr(RoundBlobs, "_delete_unless_claimed", stay)
    monkeypatch.setattr("simulations.invariants.whole.BLOBS_BESIDES", 8)
    assert rule_of(played(rounds=20)) == "bounds"


def test_an_error_of_our_own_code_is_noticed(monkeypatch: Patch) -> None:
    def fail(self: Reign, *words: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Reign, "on_combined", fail)
    assert rule_of(played()) == "no node breaks"
