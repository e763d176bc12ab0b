"""The log view under somebody's hands: bursts, standing still, the record above, what is looked for, all nodes."""

import pytest
from textual.events import MouseScrollUp
from tui_fakes import FakeClient, recorded
from tui_stage import play, stage
from tui_store_ground import START, store_of

from fednode import ClientError
from tracker.tables.rows import LogRow, NodeRow, ParticipantRow, RunRow
from tui.facts.asks import asking
from tui.facts.log_lines import LOG_LINES_MAX
from tui.feeds.store import StoreFeed

RUN, ICU, WARD = "005f3a9c2e7b41d8", "12D3KooWcccccc002icu", "12D3KooWaaaaaa000war"
TRACEBACK = (
    'the task failed\nTraceback (most recent call last):\n  File "task.py", line 3, in loss\nValueError: nan\x1b[2J'
)


def line(seq, message, level="INFO", node=WARD, run="", logger="fednode.run"):
    time = f"2026-11-21T15:{seq // 60000 % 60:02d}:{seq // 1000 % 60:02d}.{seq % 1000:03d}Z"
    told = {"seq": seq, "time": time, "level": level, "node_id": node, "run_id": run, "logger": logger}
    return {**told, "message": message}


def burst(first, count, left_out=0):
    return {
        "type": "logs",
        "logs": [line(at, f"line {at}") for at in range(first, first + count)],
        "left_out": left_out,
    }


def client_of(*events, **answers):
    return FakeClient([recorded()[0], *events], answers)


async def told(on, client):
    await on.until(lambda: client.told == len(client.events_told))
    await on.settle()


def shown(on):
    return [row.rstrip("▁▂▃▄▅▆▇█┃ ") for row in on.text().splitlines() if "line " in row]


def test_a_burst_is_followed_and_what_was_left_out_is_said():
    async def scene():
        client = client_of(burst(1, 3_000))
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            assert "3000 lines" in on.text()
            assert "▸ 15:00:03.000" in on.text()
            await client.say(*(burst(at, 1_000, left_out=7) for at in range(3_001, 21_001, 1_000)))
            await told(on, client)
            assert f"{LOG_LINES_MAX} lines" in on.text()
            assert "▸ 15:00:21.000" in on.text()
            assert "▼ following" in on.text()
            assert "126 came too fast" in on.text()

    play(scene)


@pytest.mark.parametrize("way", ["key", "wheel"])
def test_who_goes_up_is_not_pulled_down_again(way):
    async def scene():
        client = client_of(burst(1, 12_000))
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            if way == "key":
                await on.press("ctrl+u", "k")
            else:
                table = on.app.view.table("log")
                wheel = MouseScrollUp(table, 5, 5, 0, -1, 0, False, False, False)
                for _ in range(20):
                    table.post_message(wheel)
                await on.pilot.pause()
            await on.settle()
            before = shown(on)
            assert "‖ held still" in on.text()
            await client.say(*(burst(at, 1_000) for at in range(12_001, 24_001, 1_000)))
            await told(on, client)
            assert shown(on) == before
            await on.press("G")
            await told(on, client)
            assert "▼ following" in on.text()
            assert "▸ 15:00:24.000" in on.text()

    play(scene)


def test_enter_shows_a_line_with_all_of_its_lines_and_y_copies_it():
    async def scene():
        client = client_of({"type": "logs", "logs": [line(1, TRACEBACK, "ERROR", run=RUN)], "left_out": 0})
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            assert "the task failed ⏎ Traceback" in on.text()
            await on.press("y")
            assert on.app.clipboard.splitlines() == [*TRACEBACK.splitlines()[:3], "ValueError: nan·[2J"]
            await on.press("enter")
            assert "the task failed\n" in "".join(f"{row.strip('┃ ')}\n" for row in on.text().splitlines())
            assert 'File "task.py", line 3, in loss' in on.text()
            assert "ValueError: nan·[2J" in on.text()

    play(scene)


def test_n_goes_from_match_to_match_also_after_the_filter_is_closed():
    async def scene():
        client = client_of(burst(1, 400))
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            await on.press("slash", *"line 39", "enter")
            assert "11 lines /line 39" in on.text()
            assert "▸•15:00:00.399" in on.text()
            await on.press("escape")
            assert "400 lines" in on.text()
            await on.press("n")
            assert "▸•15:00:00.039" in on.text()
            assert "  15:00:00.038" in on.text()
            await on.press("n")
            assert "▸•15:00:00.390" in on.text()
            await on.press("N", "N")
            assert "▸•15:00:00.399" in on.text()

    play(scene)


def test_other_tables_have_it_too_and_say_when_nothing_is_sought_or_found():
    async def scene():
        client = FakeClient(recorded()[:110])
        async with stage(client) as on:
            await on.press("n")
            assert "/ says what to look for" in on.told()
            await on.press("slash", *"xray", "enter", "escape")
            await on.press("n")
            assert on.app.view.table("here-runs").cursor_key == "015f3a9c2e7b41d8"
            assert "▸•" in on.text()
            on.app.view.table("here-runs").sought = "nowhere"
            await on.press("N")
            assert "no row has 'nowhere'" in on.told()

    play(scene)


def test_one_node_one_run_one_level_and_out_again():
    async def scene():
        lines = [line(1, "ours", run=RUN), line(2, "theirs", node=ICU), line(3, "bad", "ERROR", node=ICU, run=RUN)]
        client = client_of({"type": "logs", "logs": lines, "left_out": 0})
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            await on.press("o")
            assert "node icu" in on.text()
            assert "ours" not in on.text()
            await on.press("r")
            assert "theirs" not in on.text()
            await on.press("escape")
            assert "ours" in on.text()
            await on.press("v", "v")
            assert "error and above: 1 line" in on.text()
            assert any(deed.name == "Log: only node icu" for deed in on.app.view.deeds())

    play(scene)


def rows():
    yield RunRow("run-1", "digits-mlp", "p", "e", "g", "digits", "digits", "n-one", 3, START, "{}")
    for node in ("n-one", "n-two"):
        yield NodeRow(node, node[2:], "m", "0.1.0", "{}", START)
        yield ParticipantRow("run-1", node, True, 100)
    for at in range(6_500):
        message = "Loss is NaN, 100% of it" if at in (7, 40) else f"line {at}"
        yield LogRow("n-one", "run-1" if at % 2 else "", "INFO", "fednode.run", message, START + at, at)


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "store.duckdb", rows())


def test_going_up_leads_through_the_record_to_its_beginning(store):
    async def scene():
        feed = StoreFeed(store)
        async with stage(None, feed=feed) as on:
            await on.press("7")
            await on.until(lambda: on.app.state.log.lines)
            await on.settle()
            table = on.app.view.table("log")
            assert "2000 lines" in on.text()
            await on.press("g")
            first = table.cursor_key
            await on.settle()
            await on.until(lambda: table.cursor > 0)
            assert "3000 lines" in on.text()
            assert table.cursor_key == first, "the line one stands on stays under the cursor"
            while "from the record's beginning" not in on.text():
                await on.press("g")
                await on.settle()
            assert "6500 lines" in on.text()
            await on.press("g")
            assert table.cursor_key == "0@n-one"
            await on.press("G")
            assert table.cursor_key == "6499@n-one"
        feed.close()

    play(scene)


def test_a_filter_finds_what_was_never_held(store):
    async def scene():
        feed = StoreFeed(store)
        async with stage(None, feed=feed) as on:
            await on.press("7")
            await on.until(lambda: on.app.state.log.lines)
            await on.settle()
            await on.press("slash", *"nan, 100%", "enter")
            await on.settle()
            await on.until(lambda: "2 lines" in on.text())
            await on.press("escape", "r", "slash", *"NAN", "enter")
            await on.settle()
            await on.until(lambda: "1 line /NAN" in on.text())
            assert "run digits-mlp" in on.text()
        feed.close()

    play(scene)


def test_a_stores_lines_of_all_nodes_say_whose_are_missing(store):
    async def scene():
        feed = StoreFeed(store)
        async with stage(None, feed=feed) as on:
            await on.press("7", "A")
            await on.until(lambda: "Log of all nodes of digits-mlp" in on.text() and "line 6499" in on.text())
            await on.settle()
            assert "✗ this record has no lines of it" in on.text()
        feed.close()

    play(scene)


def test_all_nodes_of_the_run_are_gathered_and_who_shares_nothing_is_named():
    async def scene():
        lines = [{**line(5, "of the icu", node=ICU, run=RUN), "node_name": "icu"}]
        events = [
            {"type": "logs", "logs": lines},
            {"type": "node", "node_id": WARD, "node_name": "ward-north", "reason": "Its owner shares no logs"},
            {"type": "alive"},
            {"type": "bye"},
        ]
        client = FakeClient(recorded()[:110], {"all": events})
        async with stage(client, (80, 24)) as on:
            await on.press("7", "A")
            await on.until(lambda: "of the icu" in on.text())
            await on.settle()
            assert ("all", RUN) in client.asked
            assert "✗ Its owner shares no logs" in on.text()
            assert "no more is to come" in on.text()
            await on.press("A")
            assert "of the icu" not in on.text()
            assert "round 6 committed" in on.text()

    play(scene)


def test_why_nothing_can_be_gathered_is_shown():
    async def scene():
        client = FakeClient(recorded()[:110], {"all": ClientError("No run is called that", remedy="look")})
        async with stage(client) as on:
            await on.press("7", "A")
            await on.until(lambda: "No run is called that" in on.text())

    play(scene)


def test_lines_left_out_are_asked_for_again():
    async def scene():
        missed = [line(at, f"line {at}") for at in range(4, 9)]
        client = client_of(burst(1, 3))
        async with stage(client) as on:
            await on.press("7")
            await told(on, client)
            client.answers["logs"] = {"logs": missed, "next": 8, "previous": None}
            await client.say(burst(9, 2, left_out=5))
            await told(on, client)
            await on.until(lambda: on.app.state.answers.known(asking("logs", limit=2_000)))
            await on.until(lambda: len(on.app.state.log.lines) == 10)
            await on.settle()
            assert [at.seq for at in on.app.state.log.lines] == list(range(1, 11))
            assert "10 lines" in on.text()

    play(scene)
