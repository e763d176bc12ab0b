"""The run view under somebody's hands: panels, zoom and cursor, Gantt chart, a round in full; of a store the same."""

import json

from tui_answers_run import ANSWERS, IDS
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage
from tui_store_ground import START, rows, store_of

from fednode import ClientError
from tracker.tables.rows import RoundRow, SpanRow
from tui.facts.asks import asking
from tui.feeds.store import StoreFeed
from tui.views.run import PANELS
from tui.widgets.dialogs import Dialog

DIGITS = "005f3a9c2e7b41d8"
MIDDLE = 110


def client_of(**answers):
    return FakeClient(recorded()[:MIDDLE], {"rounds": rounds_answer(), **ANSWERS, **answers})


def in_sight(on):
    return [panel for panel in PANELS if on.app.query_one(f"#{panel}").region.height > 0]


def test_where_room_lacks_one_panel_is_in_sight_and_b_goes_through_all():
    async def scene():
        async with stage(client_of(), (80, 24)) as on:
            await on.press("3")
            await on.at_rest()
            seen = []
            for _ in PANELS:
                assert len(in_sight(on)) == 1
                assert on.app.focused.id == in_sight(on)[0], "what is seen has the focus"
                seen += in_sight(on)
                await on.press("b")
                await on.at_rest()
            assert seen == list(PANELS)
            assert in_sight(on) == ["run-chart"]
            await on.press("B")
            await on.at_rest()
            assert in_sight(on) == ["run-log"]

    play(scene)


def test_with_room_everything_is_in_sight_and_b_moves_the_focus():
    async def scene():
        async with stage(client_of(), (200, 60)) as on:
            await on.press("3")
            await on.at_rest()
            assert in_sight(on) == list(PANELS)
            text = on.text()
            for words in ("6 refused", "norm-too-large", "♛ elected", "aggregation.norm_max", "rounds 5–7", "train"):
                assert words in text
            await on.press("b")
            assert on.app.focused.id == "rounds"
        async with stage(client_of(), (120, 36)) as on:
            await on.press("3")
            await on.at_rest()
            assert in_sight(on) == ["run-chart", "run-participants", "rounds"]

    play(scene)


def test_the_cursor_reads_values_and_goes_away_with_the_whole():
    async def scene():
        async with stage(client_of(), (80, 24)) as on:
            await on.press("3")
            await on.at_rest()
            await on.press("left", "left")
            await on.at_rest()
            text = on.text()
            assert "▲" in text
            assert "round 5" in text
            at_five = on.app.glance.curves.of(on.app.glance.kind).nodes[IDS[0]][4][1]
            assert f"{at_five:.4f} ward-north" in text
            await on.press("0")
            await on.at_rest()
            assert "▲" not in on.text()

    play(scene)


def test_zooming_asks_for_the_part_that_is_looked_at():
    async def scene():
        client = client_of()
        asked = []
        client.ask = lambda *parts, ask=client.ask, **filters: (asked.append((parts[-1], filters)), ask(*parts))[1]
        async with stage(client, (120, 36)) as on:
            await on.at_rest()
            kind = {"scope": "global", "split": "eval", "key": "accuracy", "class": ""}
            assert ("series", {}) in asked
            assert ("metrics", {**kind, "points": 600}) in asked, "thinned out at the node, and one kind alone"
            assert not [filters for name, filters in asked if name == "metrics" and "points" not in filters]
            await on.press("3")
            await on.at_rest()
            await on.press("left", "plus")
            await on.at_rest()
            frame = on.app.view.curves.frame
            assert (frame.low, frame.high) == (3.5, 6.0)
            (part,) = [filters for name, filters in asked if "before_round" in filters and name == "metrics"]
            assert part["after_round"] < 3.5 < 6.0 < part["before_round"]
            await on.press("comma")
            await on.at_rest()
            assert on.app.view.curves.frame.low < 3.5
            await on.press("minus", "minus")
            await on.at_rest()
            assert on.app.view.curves.frame.whole
            await on.press("m")
            await on.at_rest()
            assert [filters["key"] for name, filters in asked if name == "metrics"][-1] == "loss"

    play(scene)


def test_o_goes_from_rounds_to_steps_to_time():
    async def scene():
        async with stage(client_of(), (120, 36)) as on:
            await on.press("3")
            await on.at_rest()
            for axis in ("step", "time", "round"):
                await on.press("o")
                await on.at_rest()
                assert on.app.view.curves.curves.axis == axis

    play(scene)


def test_a_click_sets_the_cursor_and_the_wheel_zooms():
    async def scene():
        async with stage(client_of(), (120, 36)) as on:
            await on.press("3")
            await on.at_rest()
            await on.pilot.click("#run-chart", offset=(8, 4))
            await on.at_rest()
            assert on.app.view.curves.frame.cursor == 1.0
            on.app.view.curves.zoom(1)
            await on.at_rest()
            assert not on.app.view.curves.frame.whole

    play(scene)


def test_the_gantt_chart_goes_back_through_the_rounds():
    async def scene():
        async with stage(client_of(), (120, 36)) as on:
            await on.press("3", "b")
            await on.at_rest()
            assert on.app.focused.id == "run-gantt"
            assert "rounds 5–7" in on.text()
            await on.press("left", "left")
            await on.at_rest()
            assert "rounds 3–5" in on.text()
            await on.press("plus", "plus")
            await on.at_rest()
            assert ": round 5 " in on.text()
            await on.press("0")
            await on.at_rest()
            assert "rounds 5–7" in on.text()

    play(scene)


def test_a_round_is_opened_with_what_became_of_every_update():
    async def scene():
        async with stage(client_of(), (120, 36)) as on:
            await on.press("3")
            await on.at_rest()
            on.app.view.table("rounds").focus()
            await on.press("enter")
            assert isinstance(on.app.screen, Dialog)
            text = on.text()
            assert "radiology        refused       188 samples    1.2 MB  norm-too-large: its norm 41.2" in text
            assert "lab              late" in text

    play(scene)


def test_a_filter_is_for_the_table_that_one_is_in():
    async def scene():
        async with stage(client_of(), (200, 60)) as on:
            await on.press("3")
            await on.at_rest()
            on.app.view.table("run-parameters").focus()
            await on.pilot.pause()
            await on.press("slash", *"norm", "enter")
            await on.at_rest()
            text = on.text()
            assert "aggregation.norm_max" in text
            assert "training.epochs" not in text
            assert "ward-south" in text

    play(scene)


def test_what_the_node_does_not_tell_is_said_in_its_place():
    async def scene():
        trouble = ClientError("There is no /v1/runs/x/timeline here", remedy="upgrade the node")
        async with stage(client_of(timeline=trouble, spans=trouble), (200, 60)) as on:
            await on.press("3")
            await on.at_rest()
            text = on.text()
            assert "There is no /v1/runs/x/timeline here – upgrade the node" in text
            assert "nothing is known of these rounds" in text
            assert "ward-south" in text

    play(scene)


def test_names_of_peers_are_no_markup_and_no_escape():
    async def scene():
        events = json.loads(json.dumps(recorded()[:MIDDLE]).replace("ward-north", "[b]x\\u001b[2J"))
        odd = {**ANSWERS["timeline"]["events"][0], "kind": "[red]boo", "text": "[/] \x1b[31m"}
        client = FakeClient(events, {"rounds": rounds_answer(), **ANSWERS, "timeline": {"events": [odd]}})
        async with stage(client, (200, 60)) as on:
            await on.press("3")
            await on.at_rest()
            text = on.text()
            assert "\x1b" not in text
            assert "[b]x·[2J" in text
            assert "· [red]boo" in text

    play(scene)


def test_of_a_store_there_is_the_same(tmp_path):
    updates = [{"node_id": "n-one", "samples": 100, "bytes": 900, "weight": 3, "norm": 1.5}]
    updates += [{"node_id": "n-three", "samples": 100, "bytes": 900, "weight": 0, "refused": "not-finite"}]
    refused = json.dumps([{"node_id": "n-three", "reason": "not-finite: NaN"}])
    made = RoundRow("run-1", 4, 1, "n-two", "c", "m", START + 4, 1, refused, 9, 0.5, json.dumps(updates), 1)
    spans = [SpanRow("run-1", "n-one", at, "train", "", START + at, 0.6, 0, "n-one", at) for at in (3, 4)]
    path = store_of(tmp_path / "store.duckdb", [*rows(), made, *spans])

    async def scene():
        feed = StoreFeed(path)
        async with stage(None, (200, 60), feed=feed) as on:
            await on.press("3")
            await on.until(lambda: on.app.state.answers.known(asking("runs", "run-1", "updates", limit=1000)))
            await on.at_rest()
            text = on.text()
            for words in ("4 used", "4 refused", "1.5000", "not-finite: NaN", "♛ elected", "█ train", "by 1"):
                assert words in text, words
        feed.close()

    play(scene)
