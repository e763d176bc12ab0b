"""What a record tells of what waits for a person: its queries, its items, and a proposal out of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.errors import FednodeError
from tracker.queries.inbox import record_items
from tracker.queries.proposal import recorded_proposal
from tracker.queries.reader import Reader
from tracker.store import Store
from tracker.tables.rows import (
    DecisionRow,
    ElectionRow,
    LogRow,
    NodeRow,
    ParameterRow,
    RoundRow,
    RunRow,
    StatusRow,
    iso,
)

DAY = 86_400.0
NOW = 1_800_000_000.0


def run(run_id: str, at: float, *, name: str = "study", group: str = "g", task: str = "digits") -> RunRow:
    return RunRow(run_id, name, "p", "e", group, task, "d", "n1", 5, at, "{}")


def refusing(run_id: str, number: int, *nodes: str, at: float = NOW) -> RoundRow:
    refused = json.dumps([{"node_id": node, "reason": f"norm: in round {number}"} for node in nodes])
    return RoundRow(run_id, number, 1, "n1", "c", "m", at + number, 2, refused, 10, 1.0)


def failed(run_id: str, node: str, sequence: int, state: str = "FAILED", at: float = NOW) -> StatusRow:
    return StatusRow(run_id, node, state, f"why {sequence}", 1, at, sequence, "n1")


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(None)
    yield store
    store.close()


@pytest.fixture
def reader(store: Store) -> Iterator[Reader]:
    names = [NodeRow(f"n{n}", name, f"M{n}", "1", "{}", NOW) for n, name in ((1, "icu"), (2, "lab"))]
    store.write([run("r1", NOW), *names])
    reader = store.reader()
    yield reader
    reader.close()


def test_refusals_are_counted_by_run_and_node(store: Store, reader: Reader) -> None:
    store.write([refusing("r1", 1, "n2"), refusing("r1", 2), refusing("r1", 3, "n2", "n3"), refusing("r2", 1, "n2")])
    rows = reader.query("refused_updates", {})
    found = {(row["run_id"], row["node_id"]): (row["refusals"], row["round"], row["reason"]) for row in rows}
    assert found == {
        ("r1", "n2"): (2, 3, "norm: in round 3"),
        ("r1", "n3"): (1, 3, "norm: in round 3"),
        ("r2", "n2"): (1, 1, "norm: in round 1"),
    }
    assert [row["run"] for row in rows] == ["study", "study", ""]
    assert len(reader.query("refused_updates", {"concerns": "n2"})) == 2
    assert len(reader.query("refused_updates", {"concerns": "n1"})) == 3  # it aggregated
    assert reader.query("refused_updates", {"concerns": "n9"}) == []
    assert reader.query("refused_updates", {"since": iso(NOW + DAY)}) == []


def told(node: str, after: int, reason: str, sequence: int, by: str = "") -> StatusRow:
    """A node's state, `after` a round was committed, as it (or another) recorded it."""
    return StatusRow("r1", node, "WAITING", reason, after, NOW + sequence, sequence, by or node)


def test_what_a_node_was_told_counts_until_its_round_is_recorded(store: Store, reader: Reader) -> None:
    words = "update refused: its norm (41) is over 10 (norm-too-large)"
    store.write([ElectionRow("r1", 1, "n3", NOW), ElectionRow("r1", 2, "n1", NOW)])
    store.write([told("n2", 0, words, 1), told("n2", 0, "", 2), told("n2", 0, words, 3), told("n3", 0, words, 4, "n1")])

    def found(**wanted: Any) -> list[tuple[Any, ...]]:
        rows = reader.query("refused_updates", wanted)
        return [tuple(row[key] for key in ("node_id", "refusals", "round", "reason", "aggregator")) for row in rows]

    word = "norm-too-large: its norm (41) is over 10"
    assert found() == [("n2", 1, 1, word, "n1")], "once, however often it is told; and of others not"
    assert found(concerns="n2", since=iso(NOW)) == found()
    assert found(concerns="n1") == [], "who refused it is told with the checkpoint"
    assert found(since=iso(NOW + DAY)) == found(concerns="n9") == []
    (before,) = record_items(reader.query)
    assert "lab was refused once in study, last by icu in round 1: norm-too-large: its norm (41)" in before["text"]
    store.write([refusing("r1", 1, "n2")])
    assert found() == [("n2", 1, 1, "norm: in round 1", "n1")], "the checkpoint's word takes its place"
    (after,) = record_items(reader.query)
    assert after["id"] == before["id"], "who has seen it has seen it"
    store.write([told("n2", 1, words, 9)])
    assert found() == [("n2", 2, 2, word, "n1")]
    store.write([told("n2", 1, "", 10)])
    assert found() == [("n2", 1, 1, "norm: in round 1", "n1")], "a receipt takes it back"
    store.write([told("n2", 1, words, 11)])
    assert found() == [("n2", 2, 2, word, "n1")]
    store.write([refusing("r1", 3)])
    assert found() == [("n2", 1, 1, "norm: in round 1", "n1")], "a round of which the record lacks the checkpoint"


def test_what_a_rule_sets_aside_is_nothing_to_look_at(store: Store, reader: Reader) -> None:
    aside = json.dumps([{"node_id": "n2", "reason": "set-aside: krum took another"}])
    store.write([RoundRow("r1", 1, 1, "n1", "c", "m", NOW, 2, aside, 10, 1.0), refusing("r1", 2, "n3")])
    assert [row["node_id"] for row in reader.query("refused_updates", {})] == ["n3"]


def test_what_has_failed_last_counts(store: Store, reader: Reader) -> None:
    store.write([failed("r1", "", 1), failed("r1", "n1", 2), failed("r1", "n2", 3)])
    store.write([failed("r2", "", 4), failed("r2", "", 5, "RUNNING"), failed("r3", "", 6)])
    store.write([run("r3", NOW), DecisionRow("r3", "declined", "", NOW), DecisionRow("r1", "accepted", "", NOW)])

    def asked(**wanted: Any) -> list[tuple[str, str, str]]:
        rows = reader.query("failed_runs", wanted)
        return sorted((row["run_id"], row["node_id"], row["reason"]) for row in rows)

    assert asked(node="n1", ours="n7") == [("r1", "", "why 1"), ("r1", "n1", "why 2")]
    assert asked(node="", ours="n1") == [("r1", "", "why 1"), ("r3", "", "why 6")]  # it proposed r3
    assert asked(node="", since=iso(NOW + 1)) == []


def test_lies_are_found_in_the_log(store: Store, reader: Reader) -> None:
    line = "lab lied: wrong-result. What it signed is kept in the journal"
    told = [("ERROR", "fednode.run.deposed"), ("ERROR", "task.log"), ("INFO", "fednode.run"), ("ERROR", "fednode.run")]
    store.write([LogRow("n1", "r1", level, logger, line, NOW + n, n) for n, (level, logger) in enumerate(told)])
    assert [row["time"] for row in reader.query("lies", {})] == [iso(NOW + 3), iso(NOW)]
    assert reader.query("lies", {"run_id": "r2"}) == []


def test_the_run_before_is_one_that_was_accepted_then_the_newest(store: Store, reader: Reader) -> None:
    others = [run("other", NOW - 1, group="h"), run("later", NOW + 1), run("unlike", NOW - 1, name="x", task="t")]
    store.write([*others, run("old", NOW - 9, name="x"), run("new", NOW - 5, name="x"), run("newest", NOW - 2)])
    assert [row["run_id"] for row in reader.query("proposed_before", {"run_id": "r1"})] == ["newest"]
    store.write([DecisionRow("new", "declined", "", NOW), DecisionRow("old", "accepted", "", NOW)])
    assert [row["run_id"] for row in reader.query("proposed_before", {"run_id": "r1"})] == ["old"]
    assert reader.query("proposed_before", {"run_id": "other"}) == []


def test_a_record_tells_all_that_it_knows_newest_first(store: Store, reader: Reader) -> None:
    store.write([refusing("r1", 1, "n2", at=NOW - DAY), failed("r1", "", 1)])
    store.write([LogRow("n1", "r1", "ERROR", "fednode.run", "lab lied: two-issues. What it signed", NOW + 9, 1)])
    found = record_items(reader.query)
    assert [each["kind"] for each in found] == ["failed-audit", "failed-run", "refused-updates"]
    assert found[0]["title"] == "lab lied as aggregator of study"
    assert "lab was refused once in study, last by icu in round 1: norm: in round 1" in found[2]["text"]
    assert record_items(Store(None).reader().query) == []


def test_a_proposal_out_of_a_record(store: Store, reader: Reader) -> None:
    store.write([run("r0", NOW - 9), ParameterRow("r0", "training.rounds", "3", "int")])
    given = [("training.rounds", "5", "int"), ("task.name", "digits", "str"), ("data.name", "d", "str")]
    store.write([ParameterRow("r1", *each) for each in given])
    page = recorded_proposal(reader.query, "r1")
    assert (page["proposer_name"], page["proposer_member"]) == ("icu", "M1")
    assert page["configuration"] == {"training.rounds": 5, "task.name": "digits", "data.name": "d"}
    assert page["previous"]["run_id"] == "r0"
    assert {"key": "training.rounds", "before": 3, "now": 5} in page["differences"]
    assert (page["code"]["task"], page["data"]["wanted"]) == ("digits", "d")
    assert recorded_proposal(reader.query, "r0")["previous"] is None
    with pytest.raises(FednodeError):
        recorded_proposal(reader.query, "r9")
