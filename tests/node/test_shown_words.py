"""Others' words on a terminal: no line, time or name of theirs looks like another's, or like ours."""

import time
from typing import Any

import pytest

from fednode import TaskError
from fednode_logging import UNFIT_FOR_A_NAME, class_key, flat_metrics
from node.cli import show
from node.cli.common import Answer, clean, indented
from node.cli.runs_watch import _print_line
from node.run.spans import told_rows
from node.run.task import told_to_others
from node.training.worker_checks import clean_metrics
from protocol.run.checkpoint import _UNFIT_FOR_A_NAME, Offer, Report, Span, is_metric_name
from protocol.wire import pack, unpack

LINE = {"time": "2026-01-31T12:00:00.000000Z", "node_id": "n", "node_name": "hospital-a", "level": "ERROR"}
BAD_NAMES = ["a\nb", "a\x1b[2J", "a\u202eb", "a\u2066b", "a\u200bb", "\x00", "a\u2028", "@class=x", "", "x" * 81]


def test_a_line_of_a_log_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    message = "boo\n12:00:00 hospital-b ERROR all is lost\r\n\u2028x\u202ey"
    _print_line(Answer(), LINE | {"message": message})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "hospital-a" in lines[0]
    assert lines[1].startswith("    12:00:00 hospital-b")
    assert not set("\r\u2028\u202e") & set("".join(lines))


def test_a_traceback_keeps_its_lines() -> None:
    assert clean(indented("Traceback:\n  File x\nValueError: y")).count("\n") == 2


def test_a_value_among_facts_stands_for_one_fact() -> None:
    assert show.facts([("reason", "none\nstate   FINISHED"), ("state", "FAILED")]).splitlines() == [
        "reason  none",
        "    state   FINISHED",
        "state   FAILED",
    ]


def test_a_measurements_name_is_one_heading(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(["ROUND", "loss\n1 fake \u202e"], [["1", "2\n3"]])
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Etc/GMT-14", "UTC"])
@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", "2026-99-99T99:99:99.000000Z"]
)
def test_times_that_fit_no_zone_are_shown(moment: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert show.moment(moment)
        assert show.clock(moment)
    finally:
        monkeypatch.undo()
        time.tzset()


# --- names of metrics --------------------------------------------------------------------------------------------


def _offer(metrics: dict[str, float], spans: tuple[Span, ...] = ()) -> Offer:
    run = "a" * 64
    rest: dict[str, Any] = {"update": run, "update_bytes": 1, "samples": 1, "codec": "", "metrics": metrics}
    return Offer(run=run, node="n", round=5, base=run, spans=spans, **rest)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_metric_with_such_a_name_is_not_signed_nor_taken(name: str) -> None:
    assert not is_metric_name(name)
    with pytest.raises(ValueError, match="a metric's name has 1 to 80 characters"):
        _offer({name: 1.0})
    assert told_to_others({name: 1.0, "loss": 2.0}) == {"loss": 2.0}


@pytest.mark.parametrize("name", ["loss", "recall@class=cat", "hits@10", "größe", "損失", "a b/c", "x" * 80])
def test_other_names_are(name: str) -> None:
    offer = _offer({name: 1.0})
    assert unpack(Offer, pack(offer), 10_000) == offer
    assert told_to_others({name: 1.0}) == {name: 1.0}


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if 0 < len(name) <= 80])
def test_whoever_writes_a_task_is_told_so(name: str) -> None:
    with pytest.raises(TaskError, match=r"control characters|no name") as told:
        flat_metrics({name: 1.0})
    assert told.value.args[0].isprintable()


def test_labels_come_out_of_data_and_lose_what_does_not_fit() -> None:
    assert class_key("recall", "a\nb\u202e") == "recall@class=a b "
    assert clean_metrics({"lo\nss@class=a\nb": 1.0}) == {"lo ss@class=a b": 1.0}


def test_both_sides_mean_the_same_characters() -> None:
    assert UNFIT_FOR_A_NAME.pattern == _UNFIT_FOR_A_NAME.pattern


# --- spans -------------------------------------------------------------------------------------------------------


def test_a_span_of_a_round_far_ahead_is_not_recorded() -> None:
    spans = tuple(Span("train", number, 1.0, 1.0, 0) for number in (4, 5, 6, 7, 10_000_000))
    report = Report(run="a" * 64, node="n", round=5, checkpoint="a" * 64, samples=0, metrics={}, spans=spans)
    for note in (_offer({}, spans), report):
        assert [row.round for row in told_rows("run", note, 1.0)] == [4, 5, 6]
