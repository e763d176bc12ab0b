"""Pages of the list of runs as the node tells them, and what watchers begin with."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from node.api.run_list import RunList
from tracker.queries.run_list import NEWEST_TOLD
from tracker.store import Store
from tracker.tables.rows import MetricRow, ParticipantRow, Row, RunRow, StatusRow

DAY = 1_800_000_000.0
RUNS = 250
STILL_OPEN = (3, 120)  # of the oldest hundreds


class Record:
    """The store behind a node's record; counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self.store, self.reader = store, store.reader()
        self.asked: list[str] = []

    async def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        self.asked.append(name)
        return self.reader.query(name, parameters)


@pytest.fixture
def listed() -> Iterator[tuple[RunList, Record]]:
    store = Store(None)
    for at in range(RUNS):
        run = f"{at:04d}"
        project = "wards" if at % 2 else "xray"
        store.write([RunRow(run, f"study {at}", project, "e", "g", "digits", "d", "n1", 5, DAY + at, '{"tags": []}')])
        store.write([ParticipantRow(run, node, True, 10) for node in ("n1", "n2")])
        if at not in STILL_OPEN:
            store.write([StatusRow(run, "", "FINISHED", "", 5, DAY + at, at)])
    record = Record(store)
    node: Any = SimpleNamespace(record=record, runs=SimpleNamespace(known={}))

    async def catch_up() -> None:
        await trio.lowlevel.checkpoint()

    yield RunList(node, catch_up), record
    store.close()


def page(listed: RunList, **wanted: Any) -> Mapping[str, Any]:
    return trio.run(listed.page, wanted)


def test_a_page_has_its_runs_and_how_many_there_are(listed: tuple[RunList, Record]) -> None:
    runs, record = listed
    told = page(runs, limit=3, offset=10, text="study", state=None)
    assert [run["run_id"] for run in told["runs"]] == ["0239", "0238", "0237"]
    assert told["total"] == RUNS
    assert [each["node_id"] for each in told["runs"][0]["participants"]] == ["n1", "n2"]
    assert len(record.asked) == 3, "the same few questions, however many runs"
    assert page(runs, text="no such") == {"runs": [], "total": 0}


def test_how_many_could_measure_and_how_many_have_is_told(listed: tuple[RunList, Record]) -> None:
    """A run's figures are a mean over those whose report is here: of the newest round seldom over all."""
    runs, record = listed
    told = [
        ("n1", "trainer", "TRAINING"),
        ("n2", "", "LOST"),
        ("n3", "validator", "WAITING"),
        ("n4", "trainer", "READY"),
    ]
    told += [("n5", "observer", "READY"), ("n6", "trainer", "DECLINED"), ("n7", "trainer", "INVITED")]
    rows: list[Row] = [ParticipantRow("0007", node, True, 10, role) for node, role, _ in told]
    rows += [StatusRow("0007", node, state, "", 2, DAY, at, node) for at, (node, _, state) in enumerate(told)]
    for node, rounds in (("n1", 2), ("n2", 1), ("n3", 2), ("n4", 1)):
        for round_number in range(1, rounds + 1):
            where = ("0007", node, "global", "eval", "accuracy", None, round_number, 0, 0)
            rows.append(MetricRow(*where, value=0.5, time=DAY, samples=10, source_node=node, sequence=round_number))
    record.store.write(rows)
    (run,) = page(runs, text="0007")["runs"]
    assert (run["accuracy"], run["measured_by"], run["measured_of"]) == (0.5, 2, 4)
    (other,) = page(runs, text="0008")["runs"]
    assert (other["accuracy"], other["measured_by"]) == (None, 0)


def test_a_brief_page_leaves_participants_out(listed: tuple[RunList, Record]) -> None:
    runs, record = listed
    told = page(runs, brief=True, limit=2, sort="name", project="wards")
    assert [run["name"] for run in told["runs"]] == ["study 1", "study 101"]
    assert "participants" not in told["runs"][0]
    assert "participants" not in record.asked
    assert told["runs"][0]["note"] == ""


def test_projects_are_counted(listed: tuple[RunList, Record]) -> None:
    runs, _ = listed
    projects = trio.run(runs.projects, {"open": True})
    assert projects == [{"project": "wards", "runs": 1}, {"project": "xray", "runs": 1}]


def test_watchers_begin_with_the_newest_and_all_that_go_on(listed: tuple[RunList, Record]) -> None:
    runs, _ = listed
    told, total = trio.run(runs.told_first)
    assert total == RUNS
    assert [run["run_id"] for run in told[NEWEST_TOLD:]] == ["0120", "0003"]
    assert len(told) == NEWEST_TOLD + len(STILL_OPEN)
