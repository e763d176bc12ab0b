"""What the run view knows: curves over steps and time, thinned answers and live figures, spans, what befell the run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.drawing.axes import Frame
from tui.facts import curves as curves_module
from tui.facts.curves import Curves, Kind, points_of
from tui.facts.happenings import happenings_of, last_updates, updates_of
from tui.facts.parameters import PARAMETERS_MAX, parameters_of
from tui.facts.runs import Run, commits_of, rounds_of
from tui.facts.spans import Rounds, spans_of
from tui.facts.state import State
from tui.views.bars import run_lines
from tui.views.run_asks import POINTS_IN_PART, run_asks
from tui.views.run_past_rows import happening_rows, legend_of, marks_of, part_rows, round_rows, round_text
from tui.views.run_preview import preview

GLOBAL = Kind("global", "eval", "accuracy")
LOCAL = Kind("local", "train", "loss")


def test_what_a_rule_sets_aside_is_no_refusal():
    said = [{"node_id": "b", "reason": "set-aside: krum took another"}, {"node_id": "c", "reason": "norm: too large"}]
    (other, one) = rounds_of(
        {"rounds": [{"round": 1, "updates_refused": said}, {"round": 2, "updates_refused": said[:1]}]}
    )
    assert (one.refused, one.aside) == ((("c", "norm: too large"),), ("b",))
    shown = [row.cells[-1] for row in round_rows([one, other], {"b": "ben", "c": "cleo"})]
    assert [(cell.text, cell.style) for cell in shown] == [
        ("1: cleo: norm: too large", "bad"),
        ("none; 1 set aside", "dim"),
    ]
    assert "set aside ben" in round_text(other, (), {"b": "ben"})
    (update,) = updates_of(
        {"updates": [{"round": 1, "node_id": "b", "outcome": "refused", "reason": said[0]["reason"]}]}
    )
    assert update.outcome == "aside"


def metric(node, at, value, kind=GLOBAL, epoch=0, step=0, second=0):
    place = {"node_id": node, "round": at, "epoch": epoch, "step": step, "value": value, "samples": 1}
    place |= {"scope": kind.scope, "split": kind.split, "key": kind.key, "class": None}
    return place | {"time": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z"}


def test_steps_stand_between_their_rounds_and_whole_rounds_at_their_end():
    curves = Curves()
    curves.add([metric("n", 1, 0.1, LOCAL, 1, 4), metric("n", 1, 0.2, LOCAL, 2, 8), metric("n", 2, 0.3, LOCAL, 1, 4)])
    curves.add([metric("n", 1, 0.9), metric("n", 2, 0.8)])
    assert curves.of(LOCAL, "step").nodes["n"] == [(4, 0.1), (8, 0.2), (12, 0.3)]
    assert curves.of(GLOBAL, "step").nodes["n"] == [(8, 0.9), (16, 0.8)]
    assert curves.of(LOCAL).nodes["n"] == [(1, 0.2), (2, 0.3)], "over rounds the newest step of each"


def test_without_steps_that_anybody_told_a_step_is_a_round():
    curves = Curves()
    curves.add([metric("n", at, at / 10) for at in (1, 2)])
    assert curves.of(GLOBAL, "step").nodes["n"] == curves.of(GLOBAL).nodes["n"]


def test_time_counts_from_the_first_figure_and_leaves_out_what_has_none():
    curves = Curves()
    curves.add([metric("n", 1, 0.1, second=30), metric("n", 2, 0.2, second=95), metric("n", 3, 0.3) | {"time": "?"}])
    assert curves.of(GLOBAL, "time").nodes["n"] == [(0.0, 0.1), (65.0, 0.2)]
    assert curves.of(GLOBAL, "time").mean[-1] == (65.0, 0.2)


def test_the_nodes_own_mean_goes_on_with_ours_when_the_run_does():
    curves = Curves()
    curves.add([metric("", 1, 0.5), metric("", 9, 0.9), metric("a", 1, 0.4), metric("a", 9, 0.8)])  # thinned out
    curves.add([metric("a", 10, 0.2), metric("b", 10, 0.4)])  # live
    assert curves.of(GLOBAL).mean == [(1, 0.5), (9, 0.9), (10, pytest.approx(0.3))]


def test_a_curve_that_there_is_can_be_chosen_before_its_figures_are_here():
    state = State()
    series = {"scope": "global", "split": "eval", "key": "accuracy", "class": None}
    state.take(curves_module.asking("runs", "r", "series"), {"series": [series]})
    curves = state.curves["r"]
    assert curves.kinds() == [GLOBAL]
    assert curves.of(GLOBAL).empty
    assert curves.latest(GLOBAL, "n") is None
    ask = points_of("r", GLOBAL, 600)
    assert dict(ask.filters) == {"scope": "global", "split": "eval", "key": "accuracy", "class": "", "points": 600}
    state.take(ask, {"metrics": [metric("n", 1, 0.5) | {"run_id": "r"}]})
    assert curves.latest(GLOBAL, "n") == 0.5


def test_beyond_the_bound_steps_are_thinned_and_whole_rounds_stay(monkeypatch):
    monkeypatch.setattr(curves_module, "POINTS_MAX", 200)
    curves = Curves()
    curves.add([metric("n", 1, 0.5)])
    curves.add([metric("n", 1 + step // 50, step, LOCAL, 1, 1 + step % 50) for step in range(2_000)])
    points = curves.of(LOCAL, "step").nodes["n"]
    assert 50 < len(points) <= 200
    assert points[-1][1] == 1_999, "the newest is there"
    assert curves.of(GLOBAL).nodes["n"] == [(1, 0.5)]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.floats(-10, 10)), max_size=30))
def test_the_order_in_which_figures_come_does_not_matter(figures):
    places = {(at, epoch, step): value for at, epoch, step, value in figures}
    rows = [metric("n", at, value, LOCAL, epoch, step, at) for (at, epoch, step), value in places.items()]
    one, other = Curves(), Curves()
    one.add(rows)
    for row in reversed(rows):
        other.add([row])
    for axis in curves_module.AXES:
        assert one.of(LOCAL, axis).nodes == other.of(LOCAL, axis).nodes
        points = one.of(LOCAL, axis).nodes.get("n", [])
        assert points == sorted(points, key=lambda point: point[0])


def test_rounds_looked_at_follow_the_run_until_one_goes_back():
    rounds = Rounds()
    assert (rounds.ends(9), rounds.ends(10)) == ((7, 9), (8, 10))
    back = rounds.moved(-1, 9)
    assert (back.ends(9), back.ends(20)) == ((6, 8), (6, 8))
    assert back.moved(1, 9) == Rounds(), "at the newest it follows again"
    assert Rounds().ends(1) == (1, 1)
    assert [Rounds().widened(more).count for more in (-5, 1, 99)] == [1, 4, 24]


@given(st.integers(1, 60), st.integers(1, 24), st.integers(0, 60))
def test_the_block_that_is_asked_for_has_the_rounds_looked_at(newest, count, last):
    rounds = Rounds(last or None, count)
    first, until = rounds.ends(newest)
    after, before = rounds.block(newest)
    assert 1 <= first <= until <= newest
    assert after < first
    assert until < before


def test_strange_spans_are_left_out():
    span = {"node_id": "n", "round": 1, "name": "train", "started_at": "2026-01-01T00:00:00Z", "seconds": 2.0}
    odd = [{**span, "seconds": seconds} for seconds in (-1.0, math.inf, None, 1e12)] + [{**span, "started_at": "x"}]
    (found,) = spans_of({"spans": [span, *odd, 7]})
    assert found.ended - found.began == 2.0


def happening(kind, at, second=0, node="n", text=""):
    when = f"2026-01-01T00:00:{second:02d}Z"
    return {"time": when, "round": at, "kind": kind, "node_id": node, "node_name": "icu", "text": text}


def test_marks_stand_within_the_round_that_was_under_way():
    told = happenings_of(
        {"events": [happening("elected", 2, 15, text="term 2"), happening("refused", 1, 10), happening("started", 1)]}
    )
    commits = commits_of({"rounds": [{"round": at, "committed_at": f"2026-01-01T00:00:{10 * at}Z"} for at in (1, 2)]})
    curves = Curves()
    curves.add([metric("n", at, 0.5, second=at) for at in (1, 2)] + [metric("n", 1, 0.5, LOCAL, 1, 8)])
    by_round = {mark.words: mark.place for mark in marks_of(told, curves.of(GLOBAL), commits)}
    assert by_round == {"icu elected – term 2": 1.5, "icu refused": 0.5}
    assert [mark.place for mark in marks_of(told, curves.of(GLOBAL, "step"), commits)] == [12.0, 4.0]
    assert [mark.place for mark in marks_of(told, curves.of(GLOBAL, "time"), commits)] == [15.0, 10.0]
    assert legend_of(told) == "♛ elected  ⊘ refused"
    assert marks_of(told, None, commits) == ()


def test_what_befell_a_run_is_listed_newest_first_and_an_unknown_kind_too():
    rows = happening_rows(happenings_of({"events": [happening("lost", 1), happening("moon", 2, node="")]}))
    assert [row.cells[2].text for row in rows] == ["· moon", "✗ lost"]
    assert "icu" in rows[1].cells[3].text


def run_of(**more):
    part = {"node_id": "n", "name": "icu", "state": "TRAINING", "round": 3, "samples": 9, "voter": True}
    return Run.of({"run_id": "r", "name": "digits", "round": 3, "state": "RUNNING", "participants": [part], **more})


def test_a_participants_row_has_its_last_update():
    refused = {
        "node_id": "n",
        "round": 3,
        "outcome": "refused",
        "reason": "not-finite: NaN",
        "samples": 7,
        "audited": 2,
    }
    known = last_updates({"updates": [refused, {**refused, "round": 2, "outcome": "used"}]})
    (row,) = part_rows(run_of(), "", None, None, known)
    texts = [cell.text for cell in row.cells]
    assert texts[2:] == ["  3 refused", "–", "7", "–", "by 2", "voter", "not-finite: NaN"]
    (row,) = part_rows(run_of(), "", None, None, {})
    assert [cell.text for cell in row.cells][2:5] == ["–", "–", "9"]


def test_a_round_is_told_with_every_update():
    state = {"round": 3, "checkpoint": "ab" * 32, "aggregator": "n", "term": 2, "audited": 2}
    update = {"node_id": "n", "round": 3, "outcome": "used", "samples": 7, "bytes": 1200, "norm": 1.25}
    (made,) = rounds_of({"rounds": [state]})
    text = round_text(made, updates_of({"updates": [update]}), {"n": "icu"})
    assert "icu              used            7 samples    1.2 kB  norm 1.2500" in text
    assert "by 2 voters" in text
    assert "not recorded here" in round_text(made, (), {})


def test_parameters_are_flattened_and_hostile_names_made_safe():
    manifest = {
        "training": {"rounds": 3, "sizes": [1, 2]},
        "parent": None,
        "lr": 0.12345678,
        "on": True,
        "a\x1b[2J": "b\nc",
        "empty": {},
    }
    assert parameters_of({"manifest": manifest}) == {
        "training.rounds": "3",
        "training.sizes": "1, 2",
        "parent": "–",
        "lr": "0.12345678",
        "on": "true",
        "a·[2J": "b ⏎ c",
        "empty": "–",
    }
    assert parameters_of({}) is None
    many = {f"key{at}": at for at in range(PARAMETERS_MAX + 1)}
    assert len(parameters_of({"manifest": many})) == PARAMETERS_MAX


def test_questions_stay_the_same_while_rounds_pass():
    asks = [run_asks(run_of(round=at)) for at in (8, 9)]
    assert asks[0].rounds == asks[1].rounds
    assert asks[0].updates == asks[1].updates
    assert len({run_asks(run_of(round=at)).spans(Rounds()) for at in range(8, 12)}) <= 2
    assert dict(run_asks(run_of(round=5_200)).rounds.filters) == {"after_round": 4500}
    past = run_asks(run_of(round=40)).spans(Rounds(10))
    assert {"after_round": 4, "before_round": 11}.items() <= dict(past.filters).items()


def test_a_part_of_a_run_is_asked_for_in_blocks():
    part = run_asks(run_of()).part
    assert part(GLOBAL, Frame()) is None
    assert part(GLOBAL, Frame("time", 1.0, 9.0)) is None
    asked = dict(part(GLOBAL, Frame("round", 100.0, 130.0)).filters)
    assert (asked["after_round"], asked["before_round"], asked["points"]) == (95, 161, POINTS_IN_PART)
    assert part(GLOBAL, Frame("round", 103.0, 131.0)) == part(GLOBAL, Frame("round", 100.0, 130.0))


@pytest.mark.parametrize(("by", "of", "said"), [(1, 3, "1 of 3 nodes"), (3, 3, ""), (0, 3, ""), (3, 2, ""), (2, 0, "")])
def test_figures_of_some_nodes_alone_say_so(by, of, said):
    run = Run.of({"run_id": "r", "accuracy": 0.5, "loss": 1.5, "measured_by": by, "measured_of": of})
    assert run.measured_text == said
    for drawn in (run_lines(run, 100, 4).plain(), preview(run, 60, 12).plain()):
        assert ("of 3 nodes" in drawn) is bool(said)
