"""What a task tells, as rows of the record, and what of a result's metrics everybody gets."""

from typing import Any

import pytest

from fednode_logging import class_key
from node.run.chronicle import Chronicle, Numbers
from node.run.task import METRIC_NAME_CHARACTERS_MAX, METRICS_MAX, told_to_others
from node.run.task_rows import PARAMETERS_MAX, TaskRows
from node.seams import TaskOutput
from protocol.keys import NodeId, RunId
from tracker.tables.rows import MetricRow, NodeParameterRow, SpanRow

RUN, ME = RunId("ab" * 32), NodeId("12D3KooWMe")


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def rows(warned: list[str]) -> TaskRows:
    return TaskRows(RUN, ME, now=lambda: 10.0, sequence=Numbers(lambda: 1.0), warn=warned.append)


def test_metrics_parameters_and_spans_become_rows(rows):
    told = TaskOutput(
        "metric", values={"loss": 0.5, class_key("recall", "cat"): 1.0}, round=3, epoch=2, step=7, split="eval"
    )
    first = 1_000_001
    assert rows.of(told) == [
        MetricRow(RUN, ME, "local", "eval", "loss", None, 3, 2, 7, 0.5, 0, 10.0, ME, first),
        MetricRow(RUN, ME, "local", "eval", "recall", "cat", 3, 2, 7, 1.0, 0, 10.0, ME, first + 1),
    ]
    assert rows.of(TaskOutput("parameter", parameters={"rows": ("40", "int")})) == [
        NodeParameterRow(RUN, ME, "rows", "40", "int", 10.0)
    ]
    assert rows.of(TaskOutput("span", name="look", seconds=1.5, round=3)) == [
        SpanRow(RUN, ME, 3, "task.look", "", 8.5, 1.5, 0, ME, first + 2)
    ]
    assert rows.of(TaskOutput("stdout", text="x")) == []


def test_a_parameter_told_again_is_recorded_when_it_changes(rows):
    def told(value: str) -> int:
        return len(rows.of(TaskOutput("parameter", parameters={"rows": (value, "int")})))

    assert [told("1"), told("1"), told("2"), told("2")] == [1, 0, 1, 0]


def test_parameters_are_bounded_and_that_is_said_once(rows, warned):
    for start in range(0, 2 * PARAMETERS_MAX, 100):
        rows.of(TaskOutput("parameter", parameters={str(number): ("x", "str") for number in range(start, start + 100)}))
    assert warned == [f"parameters beyond {PARAMETERS_MAX} were left out, the first of them '{PARAMETERS_MAX}'"]
    assert len(rows.of(TaskOutput("parameter", parameters={"7": ("y", "str")}))) == 1  # a known one may change


class NoRecord:
    tells_of_others = True
    trouble = ""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, *rows: Any) -> None:
        self.rows += rows


def test_signed_metrics_are_rows_by_class_and_numbered_alike_by_all():
    def chronicle(me: str) -> Chronicle:
        return Chronicle(
            RUN, NodeId(me), NoRecord(), now=lambda: 1.0, sequence=Numbers(lambda: 1.0), changed=lambda *_: None
        )  # type: ignore[arg-type]

    signed = {"loss": 0.5, class_key("recall", "cat"): 1.0, class_key("recall", 10): 0.0, "hits@10": 0.25}
    one, other = (chronicle(me)._signed_metrics("n", "global", "eval", 4, 9, signed, 7.0) for me in ("a", "b"))
    assert one == other
    assert [(row.key, row.class_, row.value) for row in one] == [
        ("hits@10", None, 0.25),
        ("loss", None, 0.5),
        ("recall", "10", 0.0),
        ("recall", "cat", 1.0),
    ]
    assert len({row.sequence for row in one}) == len(one)


def test_everybody_gets_what_fits_a_note_whole_figures_first():
    classes = {class_key("recall", number): 1.0 for number in range(100)}
    told = told_to_others({**classes, "accuracy": 0.5, "nan": float("nan"), "": 1.0, "x" * 81: 1.0})
    assert len(told) == METRICS_MAX
    assert list(told)[:2] == ["accuracy", class_key("recall", 0)]
    assert all(len(name) <= METRIC_NAME_CHARACTERS_MAX for name in told)


@pytest.mark.parametrize("kind", ["log", "stdout", "stderr"])
def test_lines_go_into_the_log_under_their_kind(kind):
    record = NoRecord()
    chronicle = Chronicle(RUN, ME, record, now=lambda: 1.0, sequence=Numbers(lambda: 1.0), changed=lambda *_: None)  # type: ignore[arg-type]
    chronicle.task_said(TaskOutput(kind, text="line: two\nlines", level="WARNING"))
    [row] = record.rows
    assert (row.logger, row.level, row.message) == (f"task.{kind}", "WARNING", "line: two\nlines")
