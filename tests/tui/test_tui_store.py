"""A stopped node's store in the same screens, and in the same words as a running one's."""

import asyncio

import pytest
from click.testing import CliRunner
from tui_stage import play, stage
from tui_store_ground import rows, store_of

from protocol.errors import FednodeError
from tracker.store import Store
from tui.app import Dashboard
from tui.command import tui
from tui.facts.asks import asking
from tui.feeds.feed import FeedError
from tui.feeds.store import StoreFeed


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "store.duckdb", rows())


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
