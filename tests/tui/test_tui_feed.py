"""The live feed: it outlives the node's absence, and asks for what events do not tell, page by page."""

import asyncio
from contextlib import aclosing

import pytest
from tui_fakes import FakeClient, recorded

from fednode import ClientError
from tui.facts.asks import asking
from tui.feeds.feed import FeedError, LiveFeed, told

DEADLINE_S = 5.0


def run(scene):
    async def within_deadline():
        async with asyncio.timeout(DEADLINE_S):
            return await scene()

    return asyncio.run(within_deadline())


def feed_of(client):
    return LiveFeed(client.connect, retry_first_s=0.001)


async def take(events, count):
    return [(await anext(events))["type"] for _ in range(count)]


def test_events_come_as_they_are_told():
    async def scene():
        async with aclosing(feed_of(FakeClient(recorded()[:5])).events()) as events:
            assert [await anext(events) for _ in range(5)] == recorded()[:5]

    run(scene)


def test_it_goes_on_trying_and_begins_anew_with_a_snapshot():
    async def scene():
        client = FakeClient(recorded()[:2])
        async with aclosing(feed_of(client).events()) as events:
            assert await take(events, 2) == ["snapshot", "log"]
            await client.go_away()
            first, second = await anext(events), await anext(events)
            assert (first["type"], first["attempt"], first["why"]) == ("absent", 1, "the stream broke off")
            assert (second["attempt"], second["why"]) == (2, "nobody listens at api.sock")
            client.come_back(recorded()[:1])
            while (event := await anext(events))["type"] == "absent":
                pass
            assert event["type"] == "snapshot"
            await client.go_away()
            assert (await anext(events))["attempt"] == 1, "the count begins anew"

    run(scene)


def test_after_lost_events_a_new_snapshot_is_asked_for_without_alarm():
    async def scene():
        client = FakeClient([recorded()[0], {"type": "dropped", "count": 4}])
        async with aclosing(feed_of(client).events()) as events:
            assert await take(events, 3) == ["snapshot", "dropped", "snapshot"]
        assert client.listening == 2

    run(scene)


def test_a_node_that_stops_in_good_order_says_why_it_is_gone():
    async def scene():
        client = FakeClient([recorded()[0], {"type": "bye"}])
        async with aclosing(feed_of(client).events()) as events:
            await take(events, 2)
            await client.go_away()
            assert (await anext(events))["type"] == "absent"

    run(scene)


def test_a_refusal_is_told_with_its_remedy():
    async def scene():
        client = FakeClient(recorded()[:1])
        client.answers["accept"] = ClientError("This run has ended", remedy="look at fednode run list")
        feed = feed_of(client)
        with pytest.raises(FeedError, match="not answering"):
            await feed.tell("POST", "runs", "r", "accept")
        async with aclosing(feed.events()) as events:
            await anext(events)
            with pytest.raises(FeedError, match="This run has ended – look at fednode run list"):
                await feed.tell("POST", "runs", "r", "accept")
            await feed.tell("POST", "runs", "r", "decline", reason="busy", data=None)
            assert await feed.ask(asking("runs", "r", "rounds", limit=5)) == {"rounds": []}
        assert client.asked == [("accept", "r"), ("decline", "r"), ("rounds", "r")]
        assert client.bodies[-1] == ("POST", ("runs", "r", "decline"), {"reason": "busy"})

    run(scene)


def test_errors_in_words_are_safe_to_show():
    assert told(OSError("bad\x1b[31m")) == "bad·[31m"
    assert told(ValueError()) == "ValueError"
