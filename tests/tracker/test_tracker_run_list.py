"""The list of runs: any order, any page, what is looked for, and how long a run will still take."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from record_rows import every_row

from tracker.queries.reader import Reader
from tracker.queries.runs import RUN_SORTS
from tracker.store import Store
from tracker.tables.rows import ElectionRow, MetricRow, ModelRow, ParticipantRow, RoundRow, RunRow, StatusRow

DAY = 1_800_000_000.0
OF_RUNS = (RunRow, StatusRow, RoundRow, ElectionRow, ModelRow, MetricRow, ParticipantRow)
# name, project, state, rounds done, accuracy, tags
RUNS = (
    ("Zebra", "wards", "FINISHED", 4, 0.9, ["old"]),
    ("apple", "Wards", "RUNNING", 2, 0.5, []),
    ("mango", "xray", "FAILED", 1, None, ["Night", "shift"]),
    ("melon", "xray", "PROPOSED", 0, None, []),
    ("berry", "xray", "FINISHED", 4, 0.95, []),
)


def rows() -> Iterator[Any]:
    for at, (name, project, state, done, accuracy, tags) in enumerate(RUNS):
        run = f"{at}f{name.lower()}"
        told = ", ".join(f'"{tag}"' for tag in tags)
        yield RunRow(run, name, project, "e", "g", "digits", "d", "n1", 4, DAY + at, f'{{"tags": [{told}]}}')
        yield ParticipantRow(run, "n1", True, 10)
        if state != "PROPOSED":
            yield StatusRow(run, "", state, "", 0, DAY + at, at)
        for round_number in range(1, done + 1):
            seconds = 100.0 if round_number == 1 else 2.0 * round_number
            yield RoundRow(run, round_number, 1, "n1", "c", "m", DAY, 1, "[]", 10, seconds)
            if accuracy is not None:
                value = accuracy - 0.1 * (done - round_number)
                place = (run, "n1", "global", "eval", "accuracy", None, round_number, 0, 0)
                yield MetricRow(*place, value, 10, DAY, "n1", round_number)


@pytest.fixture
def reader() -> Iterator[Reader]:
    store = Store(None)
    store.write(list(rows()))
    yield store.reader()
    store.close()


def names(reader: Reader, sort: str, **wanted: Any) -> list[str]:
    return [row["name"] for row in reader.query(f"runs_by_{sort}", wanted)]


ORDERS = {
    "created": ["berry", "melon", "mango", "apple", "Zebra"],
    "name": ["apple", "berry", "mango", "melon", "Zebra"],
    "project": ["apple", "Zebra", "berry", "melon", "mango"],
    "state": ["apple", "melon", "mango", "berry", "Zebra"],
    "round": ["berry", "Zebra", "apple", "mango", "melon"],
    "accuracy": ["berry", "Zebra", "apple", "melon", "mango"],
    "loss": ["berry", "melon", "mango", "apple", "Zebra"],
}


@pytest.mark.parametrize("sort", RUN_SORTS)
def test_each_order_begins_with_what_one_wants_to_see(reader: Reader, sort: str) -> None:
    assert names(reader, sort) == ORDERS[sort]


def test_the_other_direction_leaves_runs_without_a_figure_last(reader: Reader) -> None:
    assert names(reader, "accuracy", descending=False) == ["apple", "Zebra", "berry", "melon", "mango"]
    assert names(reader, "name", descending=True)[0] == "Zebra"


def test_pages_are_parts_of_the_whole(reader: Reader) -> None:
    whole = names(reader, "accuracy")
    pages = [names(reader, "accuracy", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert pages == [whole[:2], whole[2:4], whole[4:], []]


def test_by_project_the_order_holds_within_each(reader: Reader) -> None:
    assert names(reader, "accuracy", by_project=True) == ["apple", "Zebra", "berry", "melon", "mango"]
    assert names(reader, "name", by_project=True, descending=True) == ["apple", "Zebra", "melon", "mango", "berry"]
    projects = reader.query("run_projects", {})
    assert [(row["project"], row["runs"]) for row in projects] == [("Wards", 1), ("wards", 1), ("xray", 3)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"text": "zeb"}, ["Zebra"]),
        ({"text": "  XRAY   failed "}, ["mango"]),
        ({"text": "night"}, ["mango"]),
        ({"text": "1fap"}, ["apple"]),
        ({"text": "fapple"}, []),  # within an id, not at its beginning
        ({"text": ""}, ORDERS["created"]),
        ({"text": "100%"}, []),
        ({"state": "PROPOSED"}, ["melon"]),
        ({"open": True}, ["melon", "apple"]),
        ({"open": False}, ["berry", "mango", "Zebra"]),
        ({"project": "xray", "state": "FINISHED"}, ["berry"]),
        ({"before": "2027-01-15T08:00:02Z"}, ["apple", "Zebra"]),
    ],
)
def test_what_is_looked_for_is_found_and_counted(reader: Reader, wanted: dict[str, Any], found: list[str]) -> None:
    assert names(reader, "created", **wanted) == found
    totals = reader.query("runs_total", wanted)
    assert (totals[0]["total"] if totals else 0) == len(found)
    assert sum(row["runs"] for row in reader.query("run_projects", wanted)) == len(found)


def test_the_time_left_is_that_of_the_newest_rounds(reader: Reader) -> None:
    left = {row["name"]: row["seconds_left"] for row in reader.query("runs", {})}
    assert left == {"apple": 2 * (100.0 + 4.0) / 2, "Zebra": None, "mango": None, "melon": None, "berry": None}


def test_one_slow_round_does_not_count() -> None:
    store = Store(None)
    store.write(
        [RunRow("r", "r", "p", "e", "g", "t", "d", "n", 20, DAY, "{}"), StatusRow("r", "", "RUNNING", "", 0, DAY, 1)]
    )
    paces = [50.0, 0.0, 2.0, 2.0, 2.0, 90.0, 3.0]  # 0: not known
    store.write([RoundRow("r", at, 1, "n", "c", "m", DAY, 1, "[]", 1, pace) for at, pace in enumerate(paces, 1)])
    assert store.reader().query("runs", {})[0]["seconds_left"] == 13 * 2.0
    store.close()


def test_participants_of_many_runs_come_at_once(reader: Reader) -> None:
    asked = [row["run_id"] for row in reader.query("runs", {"limit": 3})]
    found = reader.query("participants", {"run_ids": asked})
    assert [row["run_id"] for row in found] == sorted(asked)


def test_two_who_begin_to_watch_at_once_fit_into_the_memory(tmp_path: Path) -> None:
    """Each has its cursor: what a join keeps, however few its rows, would else be too much together."""
    store = Store(tmp_path / "record.duckdb")
    for number in range(30):
        store.write([row for row in every_row(f"{number:064x}") if isinstance(row, OF_RUNS)])

    def watch(_: int) -> None:
        reader = store.reader()
        for _ in range(15):
            assert len(reader.query("runs", {"limit": 100})) == 30
        reader.close()

    with ThreadPoolExecutor(2) as watchers:
        list(watchers.map(watch, range(2)))
    store.close()
