"""A stopped node's store in the same screens, and in the same words as a running one's."""

import asyncio
import json

import pytest
from click.testing import CliRunner
from tui_stage import play, stage

from protocol.errors import FednodeError
from tracker.rows import (
    DecisionRow,
    ElectionRow,
    LogRow,
    MetricRow,
    NodeRow,
    ParticipantRow,
    RoundRow,
    RunRow,
    StatusRow,
)
from tracker.store import Store
from tui.app import Dashboard
from tui.command import tui
from tui.facts.asks import asking
from tui.feeds.feed import FeedError
from tui.feeds.store import StoreFeed

START = 1_790_000_000.0
NODES = ("n-one", "n-two", "n-three")


def rows():
    yield RunRow("run-1", "digits-mlp", "p", "e", "g", "digits", "digits", "n-one", 3, START, "{}")
    yield DecisionRow("run-1", "accepted", "", START)
    yield ElectionRow("run-1", 1, "n-two", START)
    for node in NODES:
        capacity = json.dumps({"cpu_cores": 4, "memory_bytes": 8 * 2**30, "memory_free_bytes": 2**30})
        yield NodeRow(node, node[2:], "m", "0.1.0", capacity, START)
        yield ParticipantRow("run-1", node, True, 100)
        yield StatusRow("run-1", node, "FINISHED", "", 3, START + 9, 1, node)
    yield StatusRow("run-1", "", "RUNNING", "", 0, START + 1, 2, "n-one")
    yield StatusRow("run-1", "", "FINISHED", "all rounds done", 3, START + 9, 3, "n-one")
    sequence = 0
    for at in (1, 2, 3):
        refused = [{"node_id": "n-three", "reason": "not finite"}] if at == 2 else []
        yield RoundRow("run-1", at, 1, "n-two", "c", "m", START + at, 3 - len(refused), json.dumps(refused), 1000, 0.5)
        for index, node in enumerate(NODES):
            sequence += 1
            value = 0.3 * at - 0.05 * index
            yield MetricRow(
                "run-1", node, "global", "eval", "accuracy", None, at, 0, 0, value, 100, START, node, sequence
            )
    yield LogRow("n-one", "run-1", "INFO", "fednode.run", "round 3 committed", START + 3, 1)
    for line in range(40):
        yield LogRow("n-one", "run-1", "INFO", "fednode.run", f"line {line}", START + 3, 2 + line)
    yield LogRow("n-two", "run-1", "WARNING", "fednode.run", "something odd", START + 4, 1)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store.duckdb"
    writing = Store(path)
    writing.write(list(rows()))
    writing.close()
    return path


def test_a_stores_screens(store):
    async def scene():
        feed = StoreFeed(store)
        async with stage(None, (200, 60), feed=feed) as on:
            await on.until(lambda: on.app.state.curves and on.app.state.log.lines)
            await on.settle()
            text = on.text()
            for words in ("store store.duckdb", "■ stopped", "✓ FINISHED", "3/3", "0.8500", "something odd"):
                assert words in text
            assert "away" not in text, "of a record nobody is away"
            assert "▸" in text.splitlines()[-3], "the log is followed"
            await on.press("3")
            await on.until(lambda: on.app.state.answers.known(asking("runs", "run-1", "rounds")))
            await on.settle()
            assert "three: not finite" in on.text()
            await on.press("S")
            assert "stop run" not in on.text()
        feed.close()

    play(scene)


def test_a_store_at_a_glance(store):
    done = CliRunner().invoke(tui, ["--once", "--store", str(store)])
    assert "✓ FINISHED" in done.output
    assert "participants of digits-mlp" in done.output


def test_wishes_are_refused_with_the_reason(store):
    feed = StoreFeed(store)
    with pytest.raises(FeedError, match="not a running node"):
        asyncio.run(feed.tell("POST", "runs", "run-1", "accept"))
    feed.close()


def test_a_store_in_use_is_refused_by_name(store):
    held = Store(store)
    with pytest.raises(FednodeError):
        StoreFeed(store)
    held.close()


def test_what_the_record_refuses_is_told_not_thrown(store):
    feed = StoreFeed(store)
    feed._reader.query = lambda *_: (_ for _ in ()).throw(FednodeError("Too large", remedy="ask for less"))
    with pytest.raises(FeedError, match="Too large – ask for less"):
        asyncio.run(feed.ask(asking("runs", "run-1", "rounds")))
    assert isinstance(Dashboard(feed).feed, StoreFeed)
    feed.close()
