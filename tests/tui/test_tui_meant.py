"""What is done is what was seen: a peer's proposal that comes just as a key is pressed is not what was meant."""

from tui_fakes import FakeClient, recorded
from tui_stage import play, stage

XRAY, LATE = "015f3a9c2e7b41d8", "025f3a9c2e7b41d8"
MIDDLE = 110  # events of the recording, in which xray-cnn waits for an answer


def late_proposal():
    """Another run that waits, and is newer than all others."""
    asking = next(run for event in recorded()[:MIDDLE] if (run := event.get("run")) and run["run_id"] == XRAY)
    return {"type": "run", "run": asking | {"run_id": LATE, "name": "late", "created_at": "2027-01-01T00:00:00Z"}}


def accepted(client):
    return [parts[1] for _, parts, _ in client.bodies if parts[-1] == "accept"]


def test_a_key_answers_the_run_that_was_shown_to_wait():
    async def scene():
        client = FakeClient(recorded()[:MIDDLE])
        async with stage(client) as on:
            await on.until(lambda: on.app.state.run(XRAY) is not None and on.app.state.run(XRAY).asks_us)
            await on.settle()
            assert "run xray-cnn" in on.text()
            await on.press("space")  # from here on nothing is painted
            await client.say(late_proposal())
            await on.until(lambda: on.app.state.run(LATE) is not None)
            await on.press("a")
            await on.agree()
            await on.until(lambda: accepted(client))
            assert accepted(client) == [XRAY]

    play(scene)


def test_the_palette_answers_the_run_that_it_named():
    async def scene():
        client = FakeClient(recorded()[:MIDDLE])
        async with stage(client) as on:
            await on.until(lambda: on.app.state.run(XRAY) is not None and on.app.state.run(XRAY).asks_us)
            await on.settle()
            accept = next(deed for deed in on.app.run_deeds() if deed.name == "Accept run xray-cnn")
            await client.say(late_proposal())
            await on.until(lambda: on.app.state.run(LATE) is not None)
            await on.settle()
            accept.do()
            await on.agree()
            await on.until(lambda: accepted(client))
            assert accepted(client) == [XRAY]

    play(scene)
