"""Recordings: what was written is played, and what is no recording is refused with a reason."""

import asyncio
import gzip
import json

import pytest
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage

from fednode import ClientError
from tui.facts.asks import asking
from tui.facts.fields import TEXT_CHARS_MAX
from tui.feeds import recording
from tui.feeds.feed import FeedError, LiveFeed
from tui.feeds.recording import RecordingError, RecordingFeed, read_recording
from tui.feeds.replay import EVENTS_AT_ONCE, ReplayFeed

HEAD = {"format": "fednode recording", "version": 1, "title": "t"}
SNAPSHOT = {"at": 0.5, "event": {"type": "snapshot", "status": {"name": "n"}}}


class Clock:
    now = 50.0

    def __call__(self):
        self.now += 0.25
        return self.now


def written(path, *lines):
    with gzip.open(path, "wb") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return path


def test_what_one_watched_is_played(tmp_path):
    path = tmp_path / "watched.ndjson.gz"
    rounds = asking("runs", recorded()[0]["runs"][0]["run_id"], "rounds")

    async def watch():
        client = FakeClient(recorded(), {"rounds": rounds_answer()})
        feed = RecordingFeed(LiveFeed(client.connect), path, Clock())
        seen = []
        async for event in feed.events():
            seen.append(event)
            if len(seen) == 3:
                await feed.ask(rounds)
            if len(seen) == len(recorded()):
                break
        feed.close()
        return seen

    seen = asyncio.run(watch())
    tape, past = read_recording(path)
    assert tape.title == "watched"
    assert seen == recorded()
    assert [moment.event for moment in tape.moments] == [event for event in seen if event["type"] != "alive"]
    assert tape.moments[0].at == 0.0
    assert tape.length_s == pytest.approx(0.25 * len(tape.moments)), "every line a quarter of a second"
    assert asyncio.run(past.ask(rounds, 0.1)) == {}, "not asked yet"
    assert asyncio.run(past.ask(rounds, 99.0)) == rounds_answer()
    assert asyncio.run(past.ask(asking("logs", limit=5), 1.0)) == {}
    with pytest.raises(FeedError, match="nobody looked"):
        asyncio.run(past.ask(asking("data"), 1.0))


def test_a_recordings_screens(tmp_path):
    path = tmp_path / "shown.ndjson.gz"
    lines = [{"at": float(at), "event": event} for at, event in enumerate(recorded())]
    now = [0.0]
    feed = ReplayFeed(*read_recording(written(path, HEAD, *lines)), speed=2.0, clock=lambda: now[0])
    length = feed.head.tape.length_s

    async def scene():
        async with stage(None, (120, 36), feed=feed) as on:

            async def shows(*words):
                await on.until(lambda: on.app.state.played.at_s == feed.head.position)
                await on.settle()
                for word in words:
                    assert word in on.text(), on.text()

            await shows("▶ 2× 0:00 of", "digits-mlp")
            now[0] = length
            await on.until(lambda: feed.head.is_ended)
            await shows("■ end", "digits-mlp")
            round_at_end = max(run.round for run in on.app.state.runs())
            await on.press("less_than_sign", "less_than_sign")
            await on.until(lambda: on.app.state.played.at_s == pytest.approx(0.9 * length))
            await on.press("space")
            await on.until(lambda: on.app.state.played.is_held)
            await shows("‖ held")
            now[0] *= 2
            await on.press("space", "right_curly_bracket")
            await on.until(lambda: on.app.state.played.speed == 5.0)
            feed.step(-20)
            await on.until(lambda: on.app.state.played.at_s == 0.0)
            assert max(run.round for run in on.app.state.runs()) < round_at_end
            assert len(on.app.state.log.lines) == 0, "nothing was said yet"
            await on.press("greater_than_sign", "left_curly_bracket")
            await on.until(lambda: on.app.state.played.at_s > 0.0)
            await on.press("question_mark")
            assert "in a replay" in on.text()

    play(scene)


def test_a_recording_cut_off_half_way_is_played_as_far_as_it_goes(tmp_path):
    whole = written(tmp_path / "whole", HEAD, SNAPSHOT, *({"at": 1.0 + i, "event": {"type": "x"}} for i in range(500)))
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-40])
    assert read_recording(cut)[0].moments[0].event["type"] == "snapshot"


def test_a_recording_never_takes_anothers_place(tmp_path):
    path = tmp_path / "kept"
    path.write_text("mine")
    with pytest.raises(RecordingError, match="exists already"):
        RecordingFeed(LiveFeed(FakeClient().connect), path)
    assert path.read_text() == "mine"
    with pytest.raises(RecordingError, match="cannot be written"):
        RecordingFeed(LiveFeed(FakeClient().connect), tmp_path / "none" / "x")


def test_a_recording_that_grows_too_large_ends_with_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "BYTES_MAX", 2_000)

    async def watch():
        feed = RecordingFeed(LiveFeed(FakeClient(recorded()).connect), tmp_path / "r")
        told = []
        async for event in feed.events():
            told.append(event)
            if event["type"] == "note":
                return told
        return told

    told = asyncio.run(watch())
    assert "the recording has ended" in told[-1]["text"]
    monkeypatch.setattr(recording, "BYTES_MAX", 1 << 20)
    with pytest.raises(RecordingError, match="no events"):
        read_recording(tmp_path / "r")  # the recorded snapshot alone is longer


DAMAGED = {
    "no gzip": (b"plain text", "is no recording"),
    "another format": ([{"format": "asciicast"}], "is no recording"),
    "another version": ([HEAD | {"version": 2}], "another version"),
    "no events": ([HEAD], "no events"),
    "no JSON": ([HEAD, b"{oops\n"], "line 2, it is no JSON"),
    "no object": ([HEAD, [1]], "line 2, it is no object"),
    "deep": ([HEAD, b"[" * 100_000 + b"\n"], "line 2, it is no JSON"),
    "no time": ([HEAD, {"event": {"type": "x"}}], "line 2, its time"),
    "back in time": ([HEAD, SNAPSHOT, {"at": 0.1, "event": {"type": "x"}}], "line 3, its time"),
    "not a number": ([HEAD, b'{"at": NaN, "event": {"type": "x"}}\n'], "line 2, its time"),
    "a number beyond all floats": (
        [HEAD, b'{"at": 1' + b"0" * 400 + b', "event": {"type": "x"}}\n'],
        "line 2, its time",
    ),
    "beyond all time": ([HEAD, {"at": 1e12, "event": {"type": "x"}}], "line 2, its time"),
    "neither": ([HEAD, {"at": 0.1, "what": 1}], "line 2, it is neither"),
    "an event without a type": ([HEAD, {"at": 0.1, "event": {}}], "line 2, it is neither"),
    "a strange question": ([HEAD, {"at": 0.1, "ask": [[{}], {}], "answer": {}}], "line 2, its question"),
    "strange filters": ([HEAD, {"at": 0.1, "ask": [["a"], {"x": {}}], "answer": {}}], "line 2, its question"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_recording_is_refused_with_the_reason(case, tmp_path):
    lines, why = DAMAGED[case]
    path = tmp_path / "r"
    if isinstance(lines, bytes):
        path.write_bytes(lines)
    else:
        written(path, *lines)
    with pytest.raises(ClientError, match=why) as refused:
        read_recording(path)
    assert refused.value.remedy


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "BYTES_MAX", 1 << 20)
    with pytest.raises(RecordingError, match="larger than what is played"):
        read_recording(written(tmp_path / "bomb", HEAD, b" " * (64 << 20)))


HEAVY = {
    "short lines": [b'{"at":0,"event":{"type":"x"}}\n' * 400],
    "a long list": [b'{"at":0,"event":{"type":"x","a":[' + b"[]," * 1_000 + b"[]]}}\n"],
}


@pytest.mark.parametrize("case", HEAVY)
def test_what_would_take_far_more_room_than_it_has_bytes_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "VALUES_MAX", 1_000)
    with pytest.raises(RecordingError, match="larger than what is played") as refused:
        read_recording(written(tmp_path / "heavy", HEAD, *HEAVY[case]))
    assert "1,000 values" in refused.value.remedy


def test_a_recording_ends_while_it_can_be_played(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "VALUES_MAX", 1_000)

    async def watch():
        feed = RecordingFeed(LiveFeed(FakeClient(recorded()).connect), tmp_path / "r")
        async for event in feed.events():
            if event["type"] == "note":
                assert "as large as can be played" in event["text"]
                break

    asyncio.run(watch())
    assert read_recording(tmp_path / "r")[0].moments


def test_a_recordings_title_is_fit_for_a_terminal(tmp_path):
    evil = HEAD | {"title": "a\x1b[2J\u202e" + "b" * 10_000}
    title = read_recording(written(tmp_path / "r", evil, SNAPSHOT))[0].title
    assert title.isprintable()
    assert len(title) <= TEXT_CHARS_MAX


def test_a_recording_that_happens_all_at_once_leaves_room_for_keys(tmp_path):
    lines = [{"at": 0.5, "event": {"type": "x"}}] * (3 * EVENTS_AT_ONCE)
    feed = ReplayFeed(*read_recording(written(tmp_path / "r", HEAD, SNAPSHOT, *lines)))
    seen = []

    async def follow():
        async for event in feed.events():
            seen.append(event)

    async def scene():
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)  # virtual time: one turn of the loop
        assert len(seen) == EVENTS_AT_ONCE, "then others have their turn"
        following.cancel()

    asyncio.run(scene())
