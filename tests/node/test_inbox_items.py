"""What is in an inbox, kind by kind: pure tables."""

from types import SimpleNamespace
from typing import Any

import pytest

from node.api.inbox.items import (
    DISK_LOW_BYTES,
    JOINERS_OF_A_GROUP_MAX,
    PAUSE_TOLD_AFTER_S,
    PROPOSALS_OF_A_MEMBER_MAX,
    Joiner,
    Noted,
    Proposed,
    Trouble,
    disk_item,
    joiner_items,
    paused_items,
    proposal_items,
    trouble_item,
    troubles,
)
from node.api.inbox.proposal import code_here, data_here
from tracker.queries.inbox import (
    LOOK_BACK_S,
    TEXT_CHARACTERS_MAX,
    failed_item,
    lie_item,
    newest_first,
    refused_item,
    told_lie_item,
)
from tracker.queries.proposal import code_of, configuration_of, data_of, differences

NOW = 1_790_000_000.0
DAY = 86_400.0


def proposed(number: int, **changes: Any) -> Proposed:
    facts = {"run_id": f"{number:064x}", "name": f"run-{number}", "group_id": "g", "group": "study", "proposer": "icu"}
    facts |= {"member_id": "Mann", "member": "Ann", "task": "digits", "task_file": False, "data": "digits"}
    facts["how"] = "mean · bf16 · no audit"
    return Proposed(**{**facts, "at": NOW + number, **changes})  # type: ignore[arg-type]


def joiner(number: int, **changes: Any) -> Joiner:
    facts = {"member_id": f"M{number}", "name": f"member {number}", "role": "member", "nodes": {f"n{number}": "east"}}
    facts |= {"by": "icu", "at": NOW - number, "is_new": True, "is_ours": False}
    return Joiner(**{**facts, **changes})  # type: ignore[arg-type]


def refusal(**changes: Any) -> dict[str, Any]:
    row = {"run_id": "r" * 64, "run": "study", "group_id": "g", "node_id": "node-b", "node_name": "b", "refusals": 1}
    row |= {"round": 4, "reason": "norm: too large", "aggregator": "node-a", "aggregator_name": "a"}
    return {**row, "time": "2026-09-21T14:13:20.000000Z", **changes}


# --- proposals -----------------------------------------------------------------------------------------------------
def test_a_proposal_says_who_asks_for_what_and_waits_for_an_answer() -> None:
    (told,) = proposal_items([proposed(1, task="xray.py", task_file=True)])
    assert told["id"] == f"proposal-{1:064x}"
    assert (told["needs"], told["actions"]) == ("answer", ["accept", "decline", "run"])
    assert "icu of Ann proposes it to study" in told["text"]
    assert "the task file xray.py on a data set called digits" in told["text"]
    assert "How: mean · bf16 · no audit. Accept it" in told["text"]


def test_who_proposes_by_the_hundred_fills_a_few_lines() -> None:
    flood = proposal_items([*(proposed(number) for number in range(300)), proposed(1, member_id="Mbo", member="Bo")])
    theirs = [each for each in flood if each["kind"] == "proposal"]
    assert len(theirs) == PROPOSALS_OF_A_MEMBER_MAX + 1
    assert theirs[0]["title"] == "Run run-299 waits for your answer"
    assert [each["title"] for each in flood if each["kind"] == "proposals"] == ["295 more proposals by Ann"]


# --- joiners -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "title", "words"),
    [
        ({}, "member 1 came into study as member", "icu has admitted member 1 with its node east"),
        ({"is_new": False}, "member 1 has a new node in study: east", "did not expect it"),
        ({"is_ours": True, "is_new": False}, "A new node of your own in study: east", "fednode nodes revoke n1"),
    ],
)
def test_who_comes_in_is_told_with_who_let_them_in(changes: dict[str, Any], title: str, words: str) -> None:
    (told,) = joiner_items([joiner(1, **changes)], "g", "study", NOW)
    assert told["title"] == title
    assert words in told["text"]
    assert told["actions"] == ["group", "node", "seen"]


def test_another_node_of_a_member_is_another_item() -> None:
    ids = [
        joiner_items([joiner(1, nodes=nodes)], "g", "study", NOW)[0]["id"]
        for nodes in ({"a": "a"}, {"a": "renamed"}, {"a": "a", "b": "b"})
    ]
    assert ids[0] == ids[1] != ids[2]


def test_of_many_joiners_the_newest_are_named_and_of_old_ones_none() -> None:
    told = joiner_items([joiner(number) for number in range(50)], "g", "study", NOW)
    assert len(told) == JOINERS_OF_A_GROUP_MAX + 1
    assert told[-1]["title"] == f"{50 - JOINERS_OF_A_GROUP_MAX} more came into study"
    assert joiner_items([joiner(1, at=NOW - LOOK_BACK_S - DAY)], "g", "study", NOW) == []


# --- what went wrong -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("me", "title", "words"),
    [
        ("node-b", "Our updates were refused in study", "Ours were refused once in study, last by a in round 4"),
        ("node-a", "Updates of b were refused in study", "b was refused once in study, last by us in round 4"),
        ("", "Updates of b were refused in study", "last by a in round 4: norm: too large"),
    ],
)
def test_refused_updates_say_whose_and_by_whom(me: str, title: str, words: str) -> None:
    told = refused_item(refusal(), me)
    assert told["title"] == title
    assert words in told["text"]


def test_refusals_come_back_when_they_have_doubled() -> None:
    ids = [refused_item(refusal(refusals=count))["id"] for count in (1, 2, 3, 4, 5, 7, 8)]
    assert [ids.index(each) for each in ids] == [0, 1, 1, 3, 3, 3, 6]


def test_a_peers_long_reason_stays_short() -> None:
    assert len(refused_item(refusal(reason="x" * 100_000))["text"]) == TEXT_CHARACTERS_MAX


def test_a_failed_run_and_our_failed_part_are_told_apart() -> None:
    row = {"run_id": "r", "run": "study", "group_id": "g", "node_id": "", "reason": "too few", "time": "2026"}
    whole, part = failed_item(row, "me"), failed_item({**row, "node_id": "me"}, "me")
    assert whole["text"].startswith("Run study has failed: too few. Its checkpoints are kept.")
    assert part["text"].startswith("Our part in study has failed: too few. The run goes on without us.")
    assert whole["id"] != failed_item({**row, "time": "2027"}, "me")["id"]  # it failed again


def test_a_lie_says_what_was_proven() -> None:
    told = lie_item("r", "study", "icu", "wrong-result", time=None, node="n", group="g")
    assert "proved it against icu: wrong-result." in told["text"]
    row = {"run_id": "r", "run": "", "group_id": "g", "time": "2026"}
    line = "icu lied: wrong-result. What it signed is kept in the journal"
    assert told_lie_item({**row, "message": line})["title"] == "icu lied as aggregator of r"


def test_a_disk_that_fills_is_told_again_when_its_room_has_halved() -> None:
    full, fuller, emptier = (disk_item(size, "/home", NOW) for size in (2**30, 2**29, 2**30 + 5))
    assert "1.0 GiB are free where /home lies; below 2 GiB" in full["text"]
    assert full["id"] == emptier["id"] != fuller["id"]
    assert DISK_LOW_BYTES == 2 * 2**30
    assert disk_item(2**30, "/home", NOW + DAY)["id"] != full["id"]


@pytest.mark.parametrize(("waited", "count"), [(PAUSE_TOLD_AFTER_S - 1, 0), (PAUSE_TOLD_AFTER_S, 1)])
def test_a_run_that_stands_still_is_told_when_it_is_no_election(waited: float, count: int) -> None:
    noted = Noted(run_id="r", name="study", group_id="g", note="no aggregator is heard", at=NOW - waited)
    told = paused_items([noted], NOW)
    assert [each["text"] for each in told] == ["No aggregator is heard."] * count


def test_nothing_the_matter_is_no_item() -> None:
    assert paused_items([Noted(run_id="r", name="study", group_id="g", note="", at=0.0)], NOW) == []


def place(name: str, *, members: bool = True, unkept: bool = False) -> Any:
    state = SimpleNamespace(name=name, members={"M": 1} if members else {})
    return SimpleNamespace(
        group=name, state=lambda: state, has_unkept=unkept, is_too_old=not members, turned_away="", shut_at={}
    )


def test_what_the_node_cannot_do_is_told() -> None:
    found = troubles(
        "the record takes nothing now: full", [place("a"), place("b", members=False), place("c", unkept=True)]
    )
    assert [each.title for each in found] == [
        "The record takes nothing",
        "This node is too old for b",
        "The log of c cannot be written",
    ]
    assert troubles("", [place("a")]) == []


def test_the_same_trouble_at_another_time_is_another_item() -> None:
    trouble = Trouble(title="t", text="why")
    assert trouble_item(trouble, NOW)["id"] != trouble_item(trouble, NOW + 5)["id"]


def test_the_newest_comes_first_and_each_once() -> None:
    old, new = ({"id": name, "time": time} for name, time in (("a", "2025"), ("b", "2026")))
    assert newest_first([old, new, {"id": "c", "time": None}, old]) == [new, old, {"id": "c", "time": None}]


# --- proposals in full ---------------------------------------------------------------------------------------------
def parameters(**values: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"key": key.replace("_", "."), "value": value, "type": kind} for key, (value, kind) in values.items()]


def test_a_configuration_has_its_types_again() -> None:
    rows = parameters(a=("3", "int"), b=("0.5", "float"), c=("true", "bool"), d=("x", "str"), e=('["y"]', "list"))
    assert configuration_of(rows) == {"a": 3, "b": 0.5, "c": True, "d": "x", "e": '["y"]'}


def test_differences_name_what_came_went_and_changed() -> None:
    before, now = {"a": 1, "b": 2, "name": "x", "gone": 5}, {"a": 1, "b": 3, "name": "y", "new": 6}
    assert differences(before, now) == [
        {"key": "b", "before": 2, "now": 3},
        {"key": "gone", "before": 5, "now": None},
        {"key": "new", "before": None, "now": 6},
    ]


def test_code_is_built_in_or_a_file_that_is_here_or_not() -> None:
    built_in = code_of({"task.name": "digits"})
    assert (built_in["kind"], built_in["here"]) == ("built-in", True)
    assert code_here(built_in, None, "ann") == built_in
    file = code_of({"task.file": "t.py", "task.hash": "ab" * 32})
    missing, here = code_here(file, None, "ann"), code_here(file, "/x/t.py", "ann")
    assert (missing["here"], here["here"], here["path"]) == (False, True, "/x/t.py")
    assert "get it from ann, read it" in missing["what"]


@pytest.mark.parametrize(
    ("ours", "observes", "here", "words"),
    [
        (["a", "digits"], False, ["digits", "a"], "It is here."),
        (["a", "b"], False, ["a", "b"], "accept with another of yours (a, b)"),
        ([], False, [], "fednode data add digits PATH"),
        (["digits"], True, [], "only observes"),
    ],
)
def test_data_says_which_of_ours_it_may_be(ours: list[str], observes: bool, here: list[str], words: str) -> None:
    told = data_here(data_of({"data.name": "digits"}), ours, observes=observes)
    assert (told["here"], told["needed"]) == (here, not observes)
    assert words in told["what"]
