"""The state's fold: what each event changes, and that nothing a node sends can break it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tui_fakes import recorded

from tui.drawing.grid import matching
from tui.facts.asks import asking
from tui.facts.choice import Choice
from tui.facts.fields import TEXT_CHARS_MAX, safe
from tui.facts.state import CURVES_RUNS_MAX, EVERYTHING, NOTHING, TRANSFER_SHOWN_S, State
from tui.views.log_rows import log_rows
from tui.views.node_rows import peer_rows, scene
from tui.views.run_rows import participant_rows, run_rows

LOGS = asking("logs", limit=5)


def told(events, upto=None):
    state = State()
    for event in events[:upto]:
        state.apply(event, 0.0)
    return state


def log_event(seq, node="n1", second=0, message="m"):
    line = {"seq": seq, "time": f"2026-11-21T14:00:{second:02d}Z", "level": "INFO", "node_id": node}
    return line | {"run_id": "", "logger": "l", "message": message}


def test_the_whole_recording_ends_where_the_story_ends():
    state = told(recorded())
    first = state.run("005f3a9c2e7b41d8")
    assert (first.state, first.round, first.aggregator_name, first.term) == ("FINISHED", 10, "lab", 2)
    assert state.connection.state == "live"
    assert len(state.peers) == 5
    assert all(peer.here for peer in state.peers.values())
    assert state.curves[first.run_id].kinds()[0].title == "accuracy, shared model, held-out data"
    assert [run.name for run in state.runs()] == ["xray-cnn", "digits-mlp"]


@pytest.mark.parametrize(
    ("kind", "topic"), [("status", "status"), ("peer", "peers"), ("run", "runs"), ("transfer", "transfers")]
)
def test_an_event_changes_its_topic_alone(kind, topic):
    events = recorded()
    state = told(events, 1)
    event = next(event for event in events if event["type"] == kind)
    assert state.apply(event, 0.0) == {topic}


def test_a_snapshot_changes_everything_and_forgets_what_is_gone():
    events = recorded()
    state = told(events)
    fresh = json.loads(json.dumps(events[0]))
    del fresh["runs"][0], fresh["peers"][4]
    assert state.apply(fresh, 0.0) == EVERYTHING
    assert len(state.runs()) == 1
    assert len(state.peers) == 4


def test_a_run_told_often_is_understood_once():
    state = told(recorded(), 1)
    before = state.run("005f3a9c2e7b41d8")
    assert state.run("005f3a9c2e7b41d8") is before
    again = dict(state._told_runs["005f3a9c2e7b41d8"], round=7)
    state.apply({"type": "run", "run": again}, 0.0)
    assert state.run("005f3a9c2e7b41d8").round == 7


def test_what_is_unknown_or_only_says_alive_changes_nothing():
    state = told(recorded(), 1)
    assert state.apply({"type": "alive"}, 0.0) == NOTHING
    assert state.apply({"type": "of-a-newer-node", "x": 1}, 0.0) == NOTHING
    assert state.apply({}, 0.0) == NOTHING


def test_metrics_that_came_already_change_nothing():
    state = told(recorded())
    event = next(event for event in recorded() if event["type"] == "metrics")
    assert state.apply(event, 0.0) == NOTHING


def test_absence_and_return():
    state = told(recorded(), 20)
    assert state.moving(0.0)
    assert state.apply({"type": "absent", "why": "nobody listens", "attempt": 3}, 0.0) == {"connection", "transfers"}
    assert (state.connection.state, state.connection.why, state.connection.attempt) == ("absent", "nobody listens", 3)
    assert not state.moving(0.0)
    assert state.runs(), "what was known stays in sight"
    state.apply(recorded()[0], 0.0)
    assert state.connection.state == "live"
    state.apply({"type": "bye"}, 0.0)
    assert state.connection.state == "absent"


def test_an_answer_about_the_past_does_not_make_the_node_live():
    state = State()
    state.take(LOGS, {"logs": [log_event(1)]})
    assert state.connection.state == "connecting"


def test_transfers_are_shown_for_a_while():
    state = State()
    state.apply({"type": "transfer", "run_id": "r", "from": "a", "to": "b", "kind": "update", "bytes": 1}, 10.0)
    assert len(state.moving(10.0 + TRANSFER_SHOWN_S / 2)) == 1
    assert state.moving(10.0 + TRANSFER_SHOWN_S) == []


def test_earlier_log_lines_go_where_they_belong_each_once():
    state = State()
    state.apply({"type": "log", "log": log_event(5, second=5)}, 0.0)
    earlier = [log_event(seq, second=seq) for seq in (3, 4, 5)] + [log_event(5, node="n2", second=4)]
    state.take(LOGS, {"logs": earlier})
    assert [(line.node_id, line.seq) for line in state.log.lines] == [("n1", 3), ("n1", 4), ("n2", 5), ("n1", 5)]
    count = state.log.count
    state.take(LOGS, {"logs": earlier})
    assert state.log.count == count


def test_log_keys_stay_with_their_lines_when_old_ones_fall_out():
    state = told([{"type": "log", "log": log_event(seq, message=f"line {seq}")} for seq in range(10_005)])
    rows = log_rows(state, Choice())
    assert (len(rows), rows.key(0), rows[0].cells[-1].text) == (10_000, "5@n1", "line 5")
    assert rows[9_999].key == rows.key(9_999) == "10004@n1"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def damaged(event, draw):
    """The event with one of its values, anywhere, replaced by nonsense."""
    keys = list(event) if isinstance(event, dict) else list(range(len(event)))
    key = draw(st.sampled_from(keys))
    inner = event[key]
    if isinstance(inner, dict | list) and inner and draw(st.booleans()):
        damaged(inner, draw)
    elif key != "type":
        event[key] = draw(values)


@given(st.data(), st.sampled_from(sorted({event["type"] for event in recorded()})))
def test_nonsense_in_an_event_breaks_nothing(data, kind):
    state = told(recorded(), 3)
    event = json.loads(json.dumps(next(event for event in recorded() if event["type"] == kind)))
    damaged(event, data.draw)
    state.apply(event, 0.0)
    choice = Choice()
    run = choice.run(state)
    run_rows(state.runs()), peer_rows(state), scene(state, run)
    curves = state.curves.get(run.run_id) if run else None
    participant_rows(run, "", curves, choice.kind_of(curves))
    rows = log_rows(state, choice)
    [rows[index] for index in range(len(rows))]


def test_texts_of_peers_cannot_drive_the_terminal():
    assert safe("a\x1b[2Jb\x9bc") == "a·[2Jb·c"
    assert safe("two\nlines\tand tabs") == "two ⏎ lines and tabs"
    assert safe("right\u202eleft") == "right·left"
    assert len(safe("x" * 10_000)) == TEXT_CHARS_MAX
    assert safe("日本 ward – ok") == "日本 ward – ok"


def test_the_choice_falls_on_the_run_that_goes_on():
    state = told(recorded(), 1)
    choice = Choice()
    assert choice.run(state).name == "digits-mlp"
    choice.next_run(state, 1)
    assert choice.run(state).name == "xray-cnn"
    choice.next_run(state, 1)
    assert choice.run(state).name == "digits-mlp"
    choice.run_id = "gone"  # whatever a node forgets
    assert choice.run(state).name == "digits-mlp"
    assert Choice().run(State()) is None


def test_a_run_that_ends_stays_in_sight_until_another_runs():
    events = recorded()
    state, choice = told(events, 1), Choice()
    choice.keep_up(state)
    for event in events:
        state.apply(event, 0.0)
    choice.keep_up(state)
    assert choice.run(state).state == "FINISHED"
    state.apply({"type": "run", "run": events[0]["runs"][1] | {"state": "RUNNING"}}, 0.0)
    choice.keep_up(state)
    assert choice.run(state).name == "xray-cnn"


def test_kinds_of_curve_go_round():
    state = told(recorded())
    curves = state.curves["005f3a9c2e7b41d8"]
    choice = Choice()
    seen = []
    for _ in curves.kinds():
        seen.append(choice.kind_of(curves))
        choice.next_kind(curves, 1)
    assert seen == curves.kinds()
    assert choice.kind_of(curves) == seen[0]
    assert choice.kind_of(None) is None


def test_a_filter_finds_text_in_any_cell():
    state = told(recorded(), 1)
    rows = peer_rows(state)
    assert [row.key for row in matching(rows, "RTX")] == [state_id for state_id in state.peers if "004" in state_id]
    assert matching(rows, "") is rows
    assert len(matching(rows, "no such thing")) == 0


def test_the_topology_marks_who_leads_who_is_away_and_who_we_are():
    events = recorded()
    died = next(i for i, event in enumerate(events) if event["type"] == "peer") + 6
    state = told(events, died)
    places = {place.name: place for place in scene(state, Choice().run(state)).places}
    assert [name for name, place in places.items() if place.aggregator] == ["lab"]
    assert [name for name, place in places.items() if not place.here] == ["icu"]
    assert [name for name, place in places.items() if place.ourselves] == ["ward-north"]


def test_of_too_many_runs_curves_those_unheard_for_longest_go_and_are_asked_for_anew():
    state = State()
    for number in range(CURVES_RUNS_MAX + 1):
        metric = {"run_id": f"run-{number}", "node_id": "n", "scope": "global", "split": "eval", "key": "loss"}
        ask = asking("runs", f"run-{number}", "metrics", points=5)
        state.take(ask, {"metrics": [{**metric, "round": 1, "value": 0.5}]})
        state.apply({"type": "metrics", "metrics": [{**metric, "run_id": "run-0", "round": number, "value": 0.1}]}, 0.0)
    assert "run-0" in state.curves, "it was heard of last"
    assert len(state.curves) == CURVES_RUNS_MAX
    assert "run-1" not in state.curves
    assert not state.answers.remembers(asking("runs", "run-1", "metrics", points=5))
    assert state.answers.remembers(asking("runs", "run-2", "metrics", points=5))
