"""A run out of a store is played as it went, and no question tells what was to come."""

import asyncio

import pytest
from click.testing import CliRunner
from tui_stage import play, stage
from tui_store_ground import START, rows, store_of

from tracker.tables.rows import RunRow, SpanRow, StatusRow
from tui.command import tui
from tui.facts.asks import asking
from tui.facts.state import State
from tui.feeds.feed import FeedError
from tui.feeds.replay import replay_of_store
from tui.feeds.run_tape import PAGE_ROWS, NoSuchRun
from tui.feeds.store import StoreFeed


def more_rows():
    """What the participants went through, with what was sent; and another run of the same time."""
    sequence = 10
    for at, state, when in ((0, "READY", 0.5), (1, "TRAINING", 1.2), (1, "UPLOADING", 1.6), (2, "TRAINING", 2.2)):
        for node in ("n-one", "n-three"):
            sequence += 1
            yield StatusRow("run-1", node, state, "", at, START + when, sequence, node)
    yield SpanRow("run-1", "n-one", 2, "upload", "", START + 2.5, 0.1, 500, "n-one", 1)
    yield SpanRow("run-1", "n-two", 2, "fetch", "n-one", START + 2.6, 0.1, 700, "n-two", 1)
    yield RunRow("run-2", "digits-other", "p", "e", "g", "digits", "digits", "n-one", 3, START + 5, "{}")


@pytest.fixture
def feed(tmp_path):
    feed = StoreFeed(store_of(tmp_path / "store.duckdb", [*rows(), *more_rows()]))
    yield feed
    feed.close()


def folded(replay, position):
    state = State()
    for event in (*replay.head.advance(0.0), *replay.head.seek(position)):
        state.apply(event, 0.0)
    return state


def test_a_run_is_played_as_it_went(feed):
    replay = replay_of_store(feed, "digits-mlp", 1.0)
    assert replay.title == "digits-mlp"
    (run,) = folded(replay, 0.0).runs()
    assert (run.state, run.round, run.accuracy, run.started_at) == ("PROPOSED", 0, None, None)
    assert {part.state for part in run.participants} == {"INVITED"}
    (run,) = folded(replay, 1.3).runs()
    assert (run.state, run.round, run.term, run.aggregator) == ("RUNNING", 1, 1, "n-two")
    assert {part.name: part.state for part in run.participants} == {
        "one": "TRAINING",
        "two": "INVITED",
        "three": "TRAINING",
    }
    (run,) = folded(replay, 2.9).runs()
    assert (run.state, run.round, run.ended_at) == ("RUNNING", 2, None)
    (run,) = folded(replay, 99.0).runs()
    assert (run.state, run.round, run.reason) == ("FINISHED", 3, "all rounds done")
    assert run.accuracy == pytest.approx(0.85)
    assert run == next(each for each in state_of(feed).runs() if each.run_id == "run-1"), "at its end it is as recorded"


def state_of(feed):
    state = State()
    state.apply(feed.snapshot(), 0.0)
    return state


def test_what_was_sent_goes_from_node_to_node(feed):
    replay = replay_of_store(feed, "run-1", 1.0)
    sent = [event for event in replay.head.advance(99.0) if event["type"] == "transfer"]
    assert [(each["kind"], each["from"], each["to"], each["bytes"]) for each in sent] == [
        ("update", "n-one", "n-two", 500),
        ("checkpoint", "n-one", "n-two", 700),
    ]


def test_no_question_tells_what_was_to_come(feed):
    replay = replay_of_store(feed, "run-1", 1.0)

    def answer(position, *parts, **filters):
        replay.head.seek(position)
        return asyncio.run(replay.ask(asking(*parts, **filters)))

    assert [row["round"] for row in answer(2.5, "runs", "run-1", "rounds")["rounds"]] == [1, 2]
    assert [row["round"] for row in answer(9.9, "runs", "run-1", "rounds", limit=1)["rounds"]] == [3]
    assert [row["round"] for row in answer(9.9, "runs", "run-1", "rounds", after_round=1)["rounds"]] == [2, 3]
    assert answer(0.5, "runs", "run-1", "logs") == {"logs": []}
    assert len(answer(3.5, "logs", limit=2_000)["logs"]) == 41
    assert {row["node_id"] for row in answer(9.0, "runs", "run-1", "metrics", node="n-one")["metrics"]} == {"n-one"}
    assert answer(1.5, "runs", "run-1")["round"] == 1
    assert [run["round"] for run in answer(0.0, "runs")["runs"]] == [0]
    assert all(event["kind"] != "finished" for event in answer(5.0, "runs", "run-1", "timeline")["events"])
    assert any(event["kind"] == "finished" for event in answer(9.5, "runs", "run-1", "timeline")["events"])
    with pytest.raises(FeedError, match="its run alone"):
        answer(1.0, "runs", "run-2", "rounds")
    with pytest.raises(FeedError, match="is a replay"):
        asyncio.run(replay.tell("POST", "runs", "run-1", "stop"))


def test_a_run_is_named_as_everywhere_else(feed):
    assert replay_of_store(feed, "run-1", 1.0).title == replay_of_store(feed, "digits-mlp", 1.0).title
    with pytest.raises(NoSuchRun, match="no run nothing"):
        replay_of_store(feed, "nothing", 1.0)
    with pytest.raises(NoSuchRun, match="no run "):
        replay_of_store(feed, "", 1.0)
    with pytest.raises(NoSuchRun, match="2 runs are called run-"):
        replay_of_store(feed, "run-", 1.0)


def test_a_long_run_is_read_page_by_page(feed, monkeypatch):
    monkeypatch.setattr("tui.feeds.run_tape.PAGE_ROWS", 2)
    short, asked = replay_of_store(feed, "run-1", 1.0), PAGE_ROWS
    monkeypatch.setattr("tui.feeds.run_tape.PAGE_ROWS", asked)
    whole = replay_of_store(feed, "run-1", 1.0)
    assert short.head.tape == whole.head.tape


def test_the_replays_screens(feed):
    replay = replay_of_store(feed, "run-1", 1.0)

    async def scene():
        async with stage(None, (120, 36), feed=replay) as on:
            await on.until(lambda: on.app.state.played)
            assert "digits-mlp" in on.text()
            replay.step(20)
            await on.until(lambda: on.app.state.runs() and on.app.state.runs()[0].ended)
            await on.settle()
            assert "■ end" in on.text()
            assert "0.8500" in on.text()
            for key in "2345678i3":
                await on.press(key)
                await on.until(lambda: not on.app.questions.waiting)
                await on.settle()
            await on.press("S")
            assert replay.head.is_ended, "of what was nothing can be stopped"

    play(scene)


def test_the_command_says_what_goes_together(tmp_path, feed):
    def said(*arguments):
        done = CliRunner().invoke(tui, arguments)
        return done.exit_code, done.output

    assert said("--replay", "run-1", "--once")[0] == 2
    assert said("--once", "--record", str(tmp_path / "x"))[0] == 2
    assert said("--replay", "x", "--speed", "0")[0] == 2
    assert "needs a terminal" in said("--replay", "x")[1]
