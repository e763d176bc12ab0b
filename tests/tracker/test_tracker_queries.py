"""The named queries give what docs/api.md promises, and stay quick over many rows."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tracker.queries.queries import QUERIES
from tracker.store import Store
from tracker.tables.rows import (
    ArtifactRow,
    DataSetRow,
    DecisionRow,
    ElectionRow,
    LogRow,
    MetricRow,
    ModelRow,
    NodeRow,
    ParticipantRow,
    RoundRow,
    RunRow,
    StatusRow,
    iso,
)

DAY = 1_800_000_000.0


def run_row(run_id: str, created_at: float = DAY) -> RunRow:
    return RunRow(run_id, f"name of {run_id}", "p", "e", "g", "digits", "d", "n1", 5, created_at, '{"rounds": 5}')


def metric(
    sequence: int, round_number: int, value: float, *, node: str = "n1", samples: int = 10, **changes: Any
) -> MetricRow:
    fields: dict[str, Any] = {"scope": "global", "split": "eval", "key": "accuracy", "class_": None, "run_id": "r1"}
    fields |= {"epoch": 0, "step": 0, "time": DAY + sequence, **changes}
    return MetricRow(
        node_id=node,
        round=round_number,
        value=value,
        samples=samples,
        source_node=node,
        sequence=sequence,
        **fields,
    )


def status(sequence: int, node: str, state: str, *, run_id: str = "r1", reason: str = "") -> StatusRow:
    return StatusRow(run_id, node, state, reason, 1, DAY + sequence, sequence)


class Asked:
    """A store in memory, and its queries."""

    def __init__(self) -> None:
        self.store = Store(None)
        self._reader = self.store.reader()

    def __call__(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        return self._reader.query(name, parameters)

    def __getitem__(self, name: str) -> dict[str, Any]:
        (row,) = self("run", run_id=name)
        return row


@pytest.fixture
def ask() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.store.close()


_VALUES = {"before": "2026-01-01T00:00:00Z", "round": 1, "after_round": 1, "open": True, "run_ids": ["r1"]}
_VALUES["before_round"] = 1


def test_every_query_runs_on_an_empty_store(ask: Asked) -> None:
    for name, query in QUERIES.items():
        required = dict.fromkeys(query.required, "none")
        rows = ask(name, **required)
        assert rows == [] or name == "store_marks"  # a store knows when it began
        for key in [*query.filters, *query.row_filters]:
            value: Any = _VALUES.get(key, "INFO")
            assert ask(name, **{**required, key: value}) == []


RUN_KEYS = {
    *("run_id", "name", "project", "experiment", "group_id", "task", "data", "proposer", "proposer_name", "state"),
    *("reason", "round", "rounds", "term", "aggregator", "aggregator_name", "elections", "created_at", "started_at"),
    *("ended_at", "seconds_left", "accuracy", "loss", "measured_by", "bytes_moved", "decision"),
}


def test_a_run_that_was_only_proposed(ask: Asked) -> None:
    ask.store.write([run_row("r1")])
    run = ask["r1"]
    assert set(run) == RUN_KEYS | {"manifest"}
    assert set(ask("runs")[0]) == RUN_KEYS
    assert run["manifest"] == {"rounds": 5}
    assert (run["state"], run["round"], run["term"], run["elections"], run["decision"]) == ("PROPOSED", 0, 0, 0, "none")
    assert [run[key] for key in ("started_at", "ended_at", "accuracy", "loss")] == [None] * 4
    assert run["measured_by"] == 0


def test_a_run_that_is_done(ask: Asked) -> None:
    ask.store.write(
        [
            run_row("r1"),
            NodeRow("n1", "Ada", "M1", "0.1", "{}", DAY),
            NodeRow("n2", "Bob", "M2", "0.1", '{"cpu_cores": 2}', DAY),
            DecisionRow("r1", "accepted", "", DAY),
            *(status(n, "", state) for n, state in enumerate(["GATHERING", "RUNNING", "RUNNING", "FINISHED"])),
            status(9, "", "RUNNING", run_id="other"),
            ElectionRow("r1", 1, "n1", DAY),
            ElectionRow("r1", 3, "n2", DAY),
            RoundRow("r1", 1, 1, "n1", "c1", "m1", DAY, 3, "[]", 100, 0.5),
            RoundRow("r1", 2, 3, "n2", "c2", "m2", DAY, 2, '[{"node_id": "n3", "reason": "not finite"}]', 90, 0.5),
        ]
    )
    run = ask["r1"]
    assert (run["proposer_name"], run["aggregator"], run["aggregator_name"]) == ("Ada", "n2", "Bob")
    assert (run["state"], run["round"], run["term"], run["elections"]) == ("FINISHED", 2, 3, 2)
    assert (run["started_at"], run["ended_at"], run["decision"]) == (iso(DAY + 1), iso(DAY + 3), "accepted")
    assert run["bytes_moved"] == 190
    rounds = ask("rounds", run_id="r1")
    assert [row["updates_refused"] for row in rounds] == [[], [{"node_id": "n3", "reason": "not finite"}]]
    assert [row["round"] for row in ask("rounds", run_id="r1", after_round=1)] == [2]
    assert ask("nodes", node="n2")[0]["capacity"] == {"cpu_cores": 2}


def test_a_round_committed_anew_replaces_the_earlier(ask: Asked) -> None:
    for term in (1, 2):
        ask.store.write([RoundRow("r1", 1, term, f"n{term}", "c", "m", DAY, 3, "[]", 100, 0.5)])
    assert [(row["term"], row["aggregator"]) for row in ask("rounds", run_id="r1")] == [(2, "n2")]


def test_a_run_that_goes_on_after_its_end_has_none(ask: Asked) -> None:
    ask.store.write([run_row("r1"), *(status(n, "", s) for n, s in enumerate(["RUNNING", "FAILED", "RUNNING"]))])
    assert (ask["r1"]["state"], ask["r1"]["ended_at"]) == ("RUNNING", None)


def test_runs_come_newest_first_in_pages(ask: Asked) -> None:
    ask.store.write([run_row(f"r{n}", DAY + n) for n in range(5)])
    first = ask("runs", limit=2)
    assert [row["run_id"] for row in first] == ["r4", "r3"]
    rest = ask("runs", before=first[-1]["created_at"])
    assert [row["run_id"] for row in rest] == ["r2", "r1", "r0"]


def test_accuracy_and_loss_are_the_newest_checkpoints_mean(ask: Asked) -> None:
    ask.store.write([run_row("r1"), run_row("r2")])
    ask.store.write(
        [
            metric(1, 1, 0.9),
            metric(2, 2, 0.2, node="n1", samples=30),
            metric(1, 2, 0.6, node="n2", samples=10),
            metric(3, 2, 7.0, node="n1", class_="7"),
            metric(4, 3, 5.0, node="n1", scope="local"),
            metric(5, 3, 5.0, node="n1", split="train"),
            metric(6, 1, 1.5, key="loss"),
        ]
    )
    assert ask["r1"]["accuracy"] == pytest.approx(0.3)
    assert ask["r1"]["loss"] == 1.5
    assert ask["r2"]["accuracy"] is None
    assert [row["accuracy"] for row in ask("runs") if row["run_id"] == "r1"] == [pytest.approx(0.3)]


def test_means_are_weighted_and_leave_out_what_is_not_finite(ask: Asked) -> None:
    ask.store.write(
        [
            metric(1, 1, 1.0, node="n1", samples=1),
            metric(1, 1, 4.0, node="n2", samples=2),
            metric(1, 1, float("nan"), node="n3", samples=100),
            metric(2, 1, float("inf"), node="n4", samples=100),
            metric(3, 2, 1.0, node="n1", samples=0),
            metric(3, 2, 2.0, node="n2", samples=0),
        ]
    )
    rows = ask("metrics", run_id="r1", node="")
    assert [(row["round"], row["value"], row["samples"]) for row in rows] == [(1, 3.0, 3), (2, 1.5, 0)]
    everybody = ask("metrics", run_id="r1", after_round=0)
    assert [(row["node_id"], row["value"]) for row in everybody if row["round"] == 1] == [
        ("", 3.0),
        ("n1", 1.0),
        ("n2", 4.0),
        ("n3", None),
        ("n4", None),
    ]
    assert set(everybody[0]) == {
        *("run_id", "node_id", "scope", "split", "key", "class", "round", "epoch", "step", "value", "time", "samples")
    }


@pytest.mark.parametrize(("value", "samples"), [(1.7e308, 2**53), (-1.7e308, 2**53), (1.7e308, 0), (1e101, 1)])
def test_no_figure_beyond_all_measure_hides_the_others(ask: Asked, value: float, samples: int) -> None:
    ask.store.write(
        [
            run_row("r1"),
            ModelRow("r1", 1, "aa", "schema", 9, DAY),
            metric(1, 1, 0.25, node="n1"),
            metric(2, 1, 0.75, node="n2"),
            metric(3, 1, value, node="n3", samples=samples),
            metric(4, 1, value, node="n4", samples=samples),
            metric(5, 2, value, node="n3", samples=samples),  # nobody else has measured this one
        ]
    )
    rows = {(row["round"], row["node_id"]): row["value"] for row in ask("metrics", run_id="r1")}
    assert (rows[1, ""], rows[1, "n3"]) == (0.5, value)
    assert (2, "") not in rows
    assert ask["r1"]["accuracy"] == 0.5
    (model,) = ask("committed_models")
    assert (model["accuracy"], model["measured_by"]) == (0.5, 2)


def test_the_samples_of_many_nodes_are_added_up_as_far_as_they_go(ask: Asked) -> None:
    ask.store.write([metric(1, 1, 1e100, node=f"n{number}", samples=2**53) for number in range(1025)])
    (mean,) = ask("metrics", run_id="r1", node="")
    assert mean["value"] == pytest.approx(1e100)
    assert mean["samples"] == 2**63 - 1


def test_means_are_of_a_round_as_a_whole(ask: Asked) -> None:
    """Of what is logged on the way each node knows its own alone."""
    whole = MetricRow("r1", "n1", "local", "train", "loss", None, 1, 0, 0, 0.5, 30, DAY, "n1", 1)
    ask.store.write(
        [
            whole,
            replace(whole, node_id="n2", value=0.25, samples=10, source_node="n2"),
            *(replace(whole, epoch=1, step=n, value=9.0, samples=0, sequence=10 + n) for n in (1, 2)),
        ]
    )
    (mean,) = ask("metrics", run_id="r1", node="")
    assert (mean["value"], mean["epoch"], mean["step"], mean["samples"]) == (0.4375, 0, 0, 40)
    assert len(ask("metrics", run_id="r1", node="n1")) == 3


def test_a_round_done_twice_counts_as_it_was_done_last(ask: Asked) -> None:
    ask.store.write([metric(1, 1, 1.0), metric(1, 1, 5.0, node="n2")])
    ask.store.write([metric(9, 1, 3.0, time=DAY - 100)])
    rows = ask("metrics", run_id="r1")
    assert [(row["node_id"], row["value"]) for row in rows] == [("", 4.0), ("n1", 3.0), ("n2", 5.0)]


def test_metrics_are_filtered(ask: Asked) -> None:
    ask.store.write(
        [
            metric(1, 1, 1.0),
            metric(2, 1, 2.0, key="loss"),
            metric(3, 1, 3.0, scope="local", split="train"),
            metric(4, 2, 4.0),
            metric(5, 2, 5.0, node="n2"),
            metric(6, 2, 6.0, class_="7"),
            metric(7, 1, 7.0, run_id="other"),
        ]
    )

    def values(**filters: Any) -> list[float]:
        return [row["value"] for row in ask("metrics", run_id="r1", **filters) if row["node_id"]]

    assert values() == [1.0, 3.0, 2.0, 4.0, 5.0, 6.0]
    assert values(key="loss") == [2.0]
    assert values(scope="local") == [3.0]
    assert values(split="train") == [3.0]
    assert values(after_round=1) == [4.0, 5.0, 6.0]
    assert values(node="n2") == [5.0]
    assert [row["class"] for row in ask("metrics", run_id="r1", node="", after_round=1)] == [None, "7"]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_of_metrics_skip_nothing(ask: Asked, limit: int) -> None:
    ask.store.write([metric(r * 10 + k, r, 1.0, key=f"k{k}") for r in range(1, 6) for k in range(3)])
    seen: list[tuple[int, str, str]] = []
    after = 0
    while page := ask("metrics", run_id="r1", after_round=after, limit=limit):
        seen += [(row["round"], row["key"], row["node_id"]) for row in page]
        after = page[-1]["round"]
    assert seen == [(r, f"k{k}", node) for r in range(1, 6) for k in range(3) for node in ("", "n1")]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_logs_skip_nothing(ask: Asked, limit: int) -> None:
    nodes = ("n1", "n2", "n3")
    ask.store.write([LogRow(node, "r1", "INFO", "l", f"{node} {n}", DAY, n) for n in range(4) for node in nodes])
    seen: list[str] = []
    after = None
    while page := ask("logs", after=after, limit=limit):
        seen += [row["message"] for row in page]
        after = page[-1]["seq"]
    assert seen == [f"{node} {n}" for n in range(4) for node in nodes]


def test_logs_are_filtered_and_have_a_tail(ask: Asked) -> None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    ask.store.write([LogRow("n1", "r1" if n % 2 else "", level, "l", level, DAY, n) for n, level in enumerate(levels)])
    assert [row["level"] for row in ask("logs", level="WARNING")] == ["WARNING", "ERROR", "CRITICAL"]
    assert [row["level"] for row in ask("logs", run_id="r1")] == ["INFO", "ERROR"]
    assert ask("logs", node="n2") == []
    assert [row["seq"] for row in ask("logs_tail", limit=2)] == [3, 4]
    assert set(ask("logs")[0]) == {"seq", "time", "level", "node_id", "run_id", "logger", "message"}


def test_participants_come_from_roster_and_statuses(ask: Asked) -> None:
    ask.store.write(
        [
            NodeRow("n1", "Ada", "M1", "0.1", "{}", DAY),
            ParticipantRow("r1", "n1", True, 120, "trainer", "f1"),
            ParticipantRow("r1", "n2", False, 80),
            status(1, "n1", "READY"),
            status(2, "n1", "TRAINING"),
            status(3, "n3", "DECLINED", reason="busy"),
            status(4, "", "RUNNING"),
            status(5, "n1", "LOST", run_id="other"),
        ]
    )
    found = {row["node_id"]: row for row in ask("participants", run_id="r1")}
    assert list(found) == ["n1", "n2", "n3"]
    assert found["n1"] == {
        "run_id": "r1",
        "node_id": "n1",
        "name": "Ada",
        "state": "TRAINING",
        "reason": "",
        "round": 1,
        "samples": 120,
        "voter": True,
        "role": "trainer",
    }
    assert (found["n2"]["state"], found["n3"]["state"], found["n3"]["reason"]) == ("INVITED", "DECLINED", "busy")
    assert (found["n2"]["role"], found["n3"]["role"]) == ("", "")
    assert len(ask("participants")) == 4
    states = ask("statuses", run_id="r1", node="n1")
    assert [row["state"] for row in states] == ["READY", "TRAINING"]
    assert ask("statuses", run_id="r1", node="n1", limit=1) == states[:1]
    assert ask("statuses", run_id="r1", node="n1", after=states[0]["position"]) == states[1:]


def test_models_elections_artifacts_and_data_sets(ask: Asked) -> None:
    ask.store.write(
        [
            ModelRow("r1", 0, "m0", "s", 10, DAY),
            ModelRow("r1", 1, "m1", "s", 10, DAY),
            ElectionRow("r1", 2, "n2", DAY),
            ElectionRow("r1", 1, "n1", DAY),
            ArtifactRow("r1", "n1", "plot", "png", "b", 5, DAY),
            DataSetRow("digits", "/d", "npz", 5, "f", '{"target": "y"}', DAY),
            DataSetRow("gone", "/g", "npz", 5, "f", "{}", DAY, removed=True),
        ]
    )
    assert [row["model"] for row in ask("models", run_id="r1")] == ["m1", "m0"]
    assert [row["model"] for row in ask("models", run_id="r1", round=0)] == ["m0"]
    assert [row["term"] for row in ask("elections", run_id="r1")] == [1, 2]
    assert [row["name"] for row in ask("artifacts", run_id="r1")] == ["plot"]
    assert [(row["name"], row["options"]) for row in ask("data_sets")] == [("digits", {"target": "y"})]


def test_highest_sequences_say_where_to_number_on(ask: Asked) -> None:
    ask.store.write(
        [metric(7, 1, 1.0), metric(3, 1, 1.0), status(5, "", "RUNNING"), LogRow("n1", "", "INFO", "", "", 1.0, 2)]
    )
    assert ask("highest_sequences") == [
        {"kind": "logs", "source": "n1", "sequence": 2},
        {"kind": "metrics", "source": "n1", "sequence": 7},
        {"kind": "statuses", "source": "", "sequence": 5},
    ]


def test_queries_stay_quick_over_many_rows(ask: Asked) -> None:
    """CPU seconds, generous: what matters is that none is a hundred times slower than a scan."""
    nodes, rounds = 50, 500
    ask.store.write([run_row("r1"), run_row("r2")])
    for r in range(rounds):
        rows: list[Any] = []
        for n in range(nodes):
            rows.append(metric(2 * r, r, r / rounds, node=f"n{n}"))
            rows.append(metric(2 * r + 1, r, 1 - r / rounds, node=f"n{n}", key="loss"))
        ask.store.write([*rows, *(LogRow("n1", "r1", "INFO", "l", "m", DAY, r * 100 + k) for k in range(100))])
    for name, parameters in [
        ("runs", {}),
        ("metrics", {"run_id": "r1", "node": "", "key": "loss"}),
        ("metrics", {"run_id": "r1", "limit": 1000}),
        ("metrics", {"run_id": "r1", "after_round": rounds - 2}),
        ("metrics", {"run_id": "r1", "node": "n7"}),
        ("logs", {"after": 40_000}),
        ("logs_tail", {"level": "INFO"}),
        ("highest_sequences", {}),
    ]:
        start = time.process_time()
        assert ask(name, **parameters)
        assert time.process_time() - start < 1.0, name
