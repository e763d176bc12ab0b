"""Groups whose members come, lie, and are put out in simulations; and every rule about them fires when it is broken."""

import logging

import pytest
from scenario_helpers import fault

from node.membership.group_keys import GroupKeys
from node.membership.groups import Groups
from protocol.group.state import GroupState
from protocol.keys import NodeId
from simulations.invariants.group import GroupTwin
from simulations.plan.read import load_scenario, read_scenario
from simulations.play import Played, play, told_faults

Patch = pytest.MonkeyPatch

SMALL = """
title = "small"
nodes = {nodes}
virtual_max_s = 3000
{more}
[run.training]
rounds = {rounds}
epochs = 1
[run.round]
deadline_s = 20
"""
SLOW = """
[[cohort]]
name = "others"
share = 1.0
samples_per_s = 200
"""
ADMIN = """
[[cohort]]
name = "second-admin"
count = 1
role = "admin"
samples_per_s = 200
"""
LAPTOPS = """
[[cohort]]
name = "laptops"
count = 2
one_member = true
samples_per_s = 200
"""


def played(more: str, nodes: int = 5, rounds: int = 6, seed: int = 1) -> Played:
    read = read_scenario(SMALL.format(nodes=nodes, rounds=rounds, more=more), "small")
    return play(read, nodes, seed)


def strangers(trick: str, more: str = SLOW) -> str:
    return f'strangers = 1\ntricks = ["{trick}"]\n{more}'


# --- put out -------------------------------------------------------------------------------------------------------
def test_the_run_goes_on_without_an_aggregator_that_is_removed() -> None:
    found = played(ADMIN + SLOW + fault("remove", node="aggregator", phase="received", round=2))
    assert found.violation is None, found.violation
    assert (found.outcome, found.rounds_committed) == ("FINISHED", 6)
    assert (len(found.out), found.members) == (1, 4)
    assert found.elections >= 2


def test_one_node_of_a_member_is_revoked_and_the_member_stays() -> None:
    found = played(LAPTOPS + SLOW + fault("revoke", node="node-4", phase="received", round=2, knocks=True))
    assert found.violation is None, found.violation
    assert (found.out, found.members) == ({4}, 4)
    assert found.rounds_committed == 6


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(("name", "nodes"), [("mutual-removal", 7), ("used-twice", 8)])
def test_what_both_halves_of_a_cut_did_comes_to_one_state(name: str, nodes: int, seed: int) -> None:
    found = play(load_scenario(name, {"training.rounds": 6}), nodes, seed)
    assert found.violation is None, found.violation
    assert len(found.out) == 1
    assert found.outcome == "FINISHED"


def test_nobody_is_removed_by_who_may_not() -> None:
    found = played(SLOW + fault("remove", node="node-1", by="node-2", at_s=2))
    assert found.violation is None, found.violation
    assert (found.out, found.members) == (set(), 5)
    assert found.fault_refusals == ["node-2 is no admin: its role is member"]
    assert told_faults(found)[0].endswith(": refused, node-2 is no admin: its role is member")


# --- strangers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("forged-token", "did not prove"),
        ("revoked-token", "revoked"),
        ("expired-token", "expired"),
        ("used-token", "used up"),
    ],
)
def test_a_token_that_must_let_nobody_in_is_refused_for_what_it_is(
    trick: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    late = '[[cohort]]\nname = "late"\ncount = 1\njoin_at_s = 3\n' if trick == "used-token" else ""
    with caplog.at_level(logging.INFO, "fednode.simulated"):
        found = played(strangers(trick, late + SLOW), rounds=10)
    assert found.violation is None, found.violation
    assert (found.members, found.out) == (5, set())
    refusals = [record.message for record in caplog.records if trick in record.message]
    assert any(reason in refusal for refusal in refusals), refusals


@pytest.mark.parametrize("trick", ["flood", "replay", "noise"])
def test_a_stranger_that_does_all_it_can_gets_nowhere_and_an_honest_one_comes_in(trick: str) -> None:
    late = '[[cohort]]\nname = "late"\ncount = 1\njoin_at_s = 3\n'
    found = played(strangers(trick, late + SLOW), rounds=10)
    assert found.violation is None, found.violation
    assert found.members == 5


# --- rogues --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lie", ["fork", "backdate", "flood", "garbage"])
def test_a_member_that_breaks_the_rules_divides_nobody(lie: str) -> None:
    rogue = f'[[cohort]]\nname = "rogue"\ncount = 1\nlies = "{lie}"\nsamples_per_s = 200\n'
    found = played(rogue + SLOW + fault("remove", node="node-2", at_s=6), rounds=10)
    assert found.violation is None, found.violation
    assert (found.out, found.members) == ({2}, 4)
    assert found.outcome == "FINISHED"


# --- the rules fire ------------------------------------------------------------------------------------------------
REMOVED = SLOW + fault("remove", node="node-2", phase="received", round=2)


def told(found: Played) -> tuple[str, str]:
    assert found.violation is not None, "nothing was noticed"
    return found.violation.rule, found.violation.what


def test_a_door_that_stays_open_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Groups, "admits", lambda self, peer: True)
    rule, what = told(played(REMOVED))
    assert rule == "one group"
    assert "node-2" in what


def test_a_key_that_is_not_made_anew_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(GroupKeys, "_due_at", lambda self, place: None)
    assert told(played(REMOVED)) == ("one group", "node-0 has no good key of the group")


def test_a_key_that_the_removed_has_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(GroupState, "good_epochs", lambda self: (*sorted(self.rotations, reverse=True), 0))
    assert told(played(REMOVED)) == ("one group", "node-2 is out, and has the key of epoch 0")


def test_a_stranger_in_the_group_is_noticed(monkeypatch: Patch) -> None:
    init = GroupTwin.__init__

    def forgetful(self: GroupTwin, nodes: object, rogues: object, twin: object) -> None:
        init(self, nodes, rogues, twin)  # type: ignore[arg-type]
        self._cast.pop()

    monkeypatch.setattr(GroupTwin, "__init__", forgetful)
    rule, what = told(played(SLOW))
    assert (rule, what[:26]) == ("one group", "strangers are in the group")


def test_an_update_of_who_is_out_is_noticed(monkeypatch: Patch) -> None:
    def known_from_the_start(self: GroupTwin) -> None:
        self._known_at = {NodeId(node.node_id): 0.0 for node in self._nodes}

    monkeypatch.setattr(GroupTwin, "look", known_from_the_start)
    rule, what = told(played(SLOW))
    assert rule == "one group"
    assert "which was out before it began" in what
