"""The dashboard over a real Unix socket, with fednode's own client."""

import os

from tui_fakes import recorded
from tui_server import Server
from tui_stage import play, stage

from tui.facts.asks import asking
from tui.feeds.client import ApiClient
from tui.feeds.feed import LiveFeed

DIGITS, XRAY = "005f3a9c2e7b41d8", "015f3a9c2e7b41d8"


async def told(events, hold):
    for event in events:
        yield event
    await hold.wait()
    yield {"type": "bye"}


def test_everything_over_a_real_socket(tmp_path):
    async def scene():
        import asyncio

        hold = asyncio.Event()
        feed = LiveFeed(lambda: ApiClient(tmp_path), retry_first_s=0.01)
        async with stage(None, feed=feed) as on:
            assert "No node is running at" in on.text()
            refusal = {"error": {"code": "ended", "what": "It has ended", "remedy": "choose another", "status": 409}}
            async with Server(tmp_path, lambda: told(recorded()[:60], hold), {"stop": refusal}) as server:
                await on.until(lambda: on.app.state.run(DIGITS) is not None)
                await on.settle()
                await on.press("a")
                await on.agree()
                await on.until(lambda: ("POST", f"/v1/runs/{XRAY}/accept", {}) in server.asked)
                await on.press("3", "S", "y")
                await on.until(lambda: "It has ended – choose another" in on.told())
                await on.until(lambda: on.app.state.answers.known(asking("runs", DIGITS, "rounds")))
                hold.set()
                await on.until(lambda: on.app.state.connection.why == "it was stopped")
                assert on.app.state.connection.state == "absent"
            again = asyncio.Event()
            async with Server(tmp_path, lambda: told(recorded(), again)):
                await on.until(lambda: on.app.state.run(DIGITS).ended)
                await on.settle()
                assert "FINISHED" in on.text()

    assert len(os.fsencode(tmp_path)) < 90, "a socket's name must be short"
    play(scene)
