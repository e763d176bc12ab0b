"""The dashboard under somebody's hands: keys, drilling in, decisions, a node that goes away and returns."""

import os

import pytest
from textual.widgets import Input
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage

from fednode import ClientError
from tui.app import VIEWS
from tui.facts.asks import asking
from tui.widgets.dialogs import Dialog, Question
from tui.widgets.row_table import RowTable
from tui.widgets.themes import THEMES

DIGITS, XRAY = "005f3a9c2e7b41d8", "015f3a9c2e7b41d8"
VIEW_WORDS = (
    *(("2", "Runs 2"), ("3", "Rounds"), ("4", "Compare"), ("5", "free disk"), ("6", "Data sets")),
    *(("7", "info and above"), ("8", "Invitations"), ("i", "Inbox")),
)
MIDDLE = 110  # events of the recording until the sixth round


def client_of(upto=MIDDLE, **answers):
    return FakeClient(recorded()[:upto], {"rounds": rounds_answer(), **answers})


def test_number_keys_show_the_views_and_escape_leads_back():
    async def scene():
        async with stage(client_of()) as on:
            for key, words in VIEW_WORDS:
                await on.press(key)
                assert words in on.text()
            await on.press("escape", "escape", "escape")
            assert "Topology of digits-mlp" in on.text()

    play(scene)


def test_moving_in_the_runs_changes_what_all_panels_show():
    async def scene():
        async with stage(client_of()) as on:
            assert "Topology of digits-mlp" in on.text()
            await on.press("k")
            assert "Topology of xray-cnn" in on.text()
            assert "no metrics yet" in on.text()
            await on.press("j")
            assert "digits-mlp: accuracy" in on.text()
            await on.press("left_square_bracket")
            assert "Topology of xray-cnn" in on.text()

    play(scene)


def test_enter_drills_from_run_to_participant_to_node_to_its_log():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("enter")
            assert "proposed by ward-south" in on.text()
            await on.press("j", "enter")
            assert "Node icu" in on.text()
            await on.press("enter")
            assert "node icu" in on.text()
            log = on.app.view.table("log")
            assert log.has_focus
            await on.press("G", "enter")
            assert isinstance(on.app.screen, Dialog)
            assert "message      round 4 committed" in on.text()
            await on.press("escape", "escape")
            assert on.app.choice.log_node == ""

    play(scene)


def test_rounds_are_asked_when_they_are_looked_at_and_tell_who_was_refused():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            assert ("rounds", DIGITS) not in client.asked
            await on.press("3")
            await on.until(lambda: on.app.state.answers.known(asking("runs", DIGITS, "rounds")))
            await on.settle()
            assert client.asked.count(("rounds", DIGITS)) == 1
            on.app.view.table("rounds").focus()
            await on.press("j", "j", "j", "enter")
            assert "radiology: norm 41.2 is over the limit of 10" in on.text()

    play(scene)


def test_accept_says_what_is_accepted_and_acts_on_the_run_that_waits():
    here = {
        "proposer_name": "ward-south",
        "proposer_member_name": "South Ward",
        "code": {"here": True, "what": "It runs the task file xray.py."},
        "data": {"needed": True, "wanted": "xray", "here": ["xray"], "what": "It trains on a data set called xray."},
    }

    async def scene():
        client = client_of(proposal=here)
        async with stage(client) as on:
            assert "xray-cnn by ward-south waits for your answer" in on.text()
            await on.press("a")
            await on.until(lambda: isinstance(on.app.screen, Question))
            for words in ("Accept xray-cnn?", "ward-south, a node of South Ward,", "file xray.py.", "called xray."):
                assert words in " ".join(on.text().replace("┃", " ").split())
            await on.press("enter")  # is no yes
            assert ("accept", XRAY) not in client.asked
            await on.press("a")
            await on.agree()
            await on.until(lambda: ("accept", XRAY) in client.asked)
            await on.until(lambda: "accepted xray-cnn" in on.told())

    play(scene)


def test_what_cannot_be_taken_back_is_asked_once():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await on.press("S")
            assert isinstance(on.app.screen, Question)
            await on.press("n")
            await on.press("S", "enter")
            assert ("stop", DIGITS) not in client.asked
            await on.press("S", "y")
            await on.until(lambda: ("stop", DIGITS) in client.asked)
            assert client.asked.count(("stop", DIGITS)) == 1
            await on.until(lambda: "to stop" in on.told())

    play(scene)


@pytest.mark.parametrize(
    ("state", "said"),
    [("FINISHED", "has ended already: FINISHED"), ("RUNNING", "was told to stop before")],
)
def test_stopping_what_has_ended_meanwhile_says_so(state, said):
    async def scene():
        client = client_of()
        client.answers["stop"] = {"asked": False, "state": state}
        async with stage(client) as on:
            await on.press("S", "y")
            await on.until(lambda: said in on.told())
            assert "asked for" not in on.told()

    play(scene)


def test_declining_takes_a_reason_and_asks_once():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await on.press("x", *"busy", "enter")
            await on.until(lambda: isinstance(on.app.screen, Question))
            await on.press("n", "enter")
            await on.until(lambda: isinstance(on.app.screen, Question))
            assert ("decline", XRAY) not in client.asked
            await on.press("y")
            await on.until(lambda: ("decline", XRAY) in client.asked)
            assert client.bodies[-1][2] == {"reason": "busy"}

    play(scene)


def test_accepting_asks_for_what_is_not_clear():
    lacking = {
        "data": {"wanted": "xray", "here": ["digits", "scans"], "needed": True, "what": "None here is called so."},
        "code": {"here": True},
    }

    async def scene():
        client = client_of(proposal=lacking)
        async with stage(client) as on:
            await on.press("a")
            await on.until(lambda: "Accept xray-cnn" in on.text())
            assert ("accept", XRAY) not in client.asked
            await on.press("right", "enter")
            await on.until(lambda: ("accept", XRAY) in client.asked)
            assert client.bodies[-1][2] == {"data": "scans"}

    play(scene)


def test_a_refusal_is_shown_with_its_remedy_and_nothing_breaks():
    async def scene():
        client = client_of(accept=ClientError("No data set is called [b]xray", remedy="fednode data add it"))
        async with stage(client) as on:
            await on.press("a")
            await on.agree()
            await on.until(lambda: "[b]xray – fednode data add it" in on.told())
            assert "[b]xray" in on.text()

    play(scene)


def test_keys_for_what_cannot_be_done_now_do_nothing():
    async def scene():
        client = FakeClient(recorded())
        async with stage(client) as on:
            await on.until(lambda: on.app.state.run(DIGITS).ended)
            await on.press("j")
            assert "stop run" not in on.text().splitlines()[-1]
            await on.press("S")
            assert not isinstance(on.app.screen, Question)

    play(scene)


def test_the_palette_does_what_the_keys_do():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await on.press("ctrl+p", *"accept")
            await on.until(lambda: "Accept run xray-cnn" in on.text())
            await on.press("down", "enter")
            await on.agree()
            await on.until(lambda: ("accept", XRAY) in client.asked)

    play(scene)


def test_a_filter_narrows_what_is_listed_until_escape():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("5", "slash", *"lab")
            nodes = on.app.view.table("nodes")
            assert nodes.words[0] == "Nodes 5 /lab"
            assert "radiology" not in on.text()
            await on.press("enter")
            assert nodes.has_focus
            await on.press("escape")
            assert "radiology" in on.text()
            await on.press("7", "slash", *"elected", "escape")
            assert not on.app.query_one("#filter", Input).has_class("shown")
            assert "round 1 committed" in on.text()

    play(scene)


def test_the_log_shows_what_is_grave_enough():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("7", "v")
            assert "warning and above: 1 line" in on.text()
            await on.press("v", "v")
            assert "debug and above: 10 lines" in on.text()

    play(scene)


def test_m_shows_the_next_kind_of_curve():
    async def scene():
        async with stage(client_of()) as on:
            titles = []
            for _ in range(4):
                titles.append(on.app.query_one("#chart").words[0])
                await on.press("m")
            assert [title.split(", ")[0] for title in titles] == ["digits-mlp: accuracy", "digits-mlp: loss"] * 2
            await on.press("M")
            assert on.app.query_one("#chart").words[0] == titles[3]

    play(scene)


def test_the_node_goes_away_and_returns():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await client.go_away()
            await on.until(lambda: on.app.state.connection.attempt > 2)
            await on.settle()
            text = on.text()
            assert "node is not answering – retrying" in text
            assert "✗ away" in text
            assert "digits-mlp" in text, "what was known stays in sight"
            await on.press("a")
            await on.until(lambda: "start it with fednode start" in on.told())
            client.come_back(recorded())
            await on.until(lambda: on.app.state.run(DIGITS).round == 10)
            await on.settle()
            assert "retrying" not in on.text()
            assert "10/10" in on.text()

    play(scene)


def test_it_starts_without_a_node_and_waits_for_it():
    async def scene():
        client = client_of()
        client._here = False
        async with stage(client) as on:
            await on.settle()
            assert "node is not answering" in on.text()
            client.come_back(recorded()[:1])
            await on.until(lambda: on.app.state.snapshots > 0)

    play(scene)


def test_events_paint_by_themselves_and_only_what_changed():
    async def scene():
        client = client_of(1)
        async with stage(client) as on:
            painted = []
            runs = on.app.view.table("here-runs")
            for table in on.app.view.query(RowTable):
                table.refresh = lambda *regions, name=table.id, **_: painted.append((name, len(regions)))
            run = dict(recorded()[0]["runs"][0], round=3)
            await client.say({"type": "run", "run": run})
            await on.until(lambda: on.app.state.run(DIGITS).round == 3 and painted)
            await on.settle()
            assert set(painted) == {("here-runs", 1)}, "one line of one table"
            assert "3/10" in "".join(span.text for span in runs._line_at(2))

    play(scene)


def test_nothing_is_painted_when_nothing_changes():
    async def scene():
        client = client_of(1)
        async with stage(client) as on:
            paints = []
            on.app.paint = lambda: paints.append(1)
            await client.say({"type": "alive"}, {"type": "of-a-newer-node"})
            told = len(client.events_told)
            await on.until(lambda: client.told == told)
            await on.pilot.pause()
            assert paints == []
            assert on.app._armed is None

    play(scene)


def test_what_the_node_wants_a_person_to_know_is_shown_once():
    async def scene():
        client = client_of(1)
        async with stage(client) as on:
            await client.say({"type": "note", "text": "the disk is [nearly] full"})
            await on.until(lambda: "the disk is [nearly] full" in on.told())
            await on.settle()
            assert on.told().count("nearly") == 1

    play(scene)


def test_paused_the_picture_stands_still():
    async def scene():
        client = client_of(1)
        async with stage(client) as on:
            await on.press("p")
            assert "paused" in on.text()
            await client.say({"type": "run", "run": dict(recorded()[0]["runs"][0], round=3)})
            await on.until(lambda: on.app.state.run(DIGITS).round == 3)
            assert " 3/10" not in on.text()
            await on.press("p")
            assert " 3/10" in on.text()

    play(scene)


def test_any_size_and_any_change_of_size():
    async def scene():
        async with stage(client_of()) as on:
            for size in ((80, 24), (20, 5), (1, 1), (200, 60), (80, 24)):
                await on.pilot.resize_terminal(*size)
                for name in VIEWS:
                    on.app.action_view(name)
                    await on.pilot.pause()
            await on.press("1")
            assert "digits-mlp" in on.text()

    play(scene)


def test_one_panel_on_the_whole_screen():
    async def scene():
        async with stage(client_of(), size=(80, 24)) as on:
            await on.press("tab", "z")
            assert on.app.screen.maximized.id == "chart"
            assert on.app.screen.maximized.outer_size.height > 18
            await on.press("escape")
            assert on.app.screen.maximized is None

    play(scene)


def test_themes_go_round_and_without_colour_all_is_said():
    async def scene():
        async with stage(client_of()) as on:
            for theme in (*THEMES[1:], THEMES[0]):
                await on.press("t")
                assert on.app.theme == theme

    play(scene)


def test_no_color_takes_the_colours_and_leaves_the_words(monkeypatch):
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")

    async def scene():
        async with stage(client_of()) as on:
            text = on.text()
            for word in ("lab aggregator ♛", "icu away ✗", "(us)", "▶ RUNNING", "● live", "━ 0.8368 mean"):
                assert word in text
            on.app.export_screenshot()

    play(scene)


def test_help_and_copy():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("question_mark")
            assert "♛ aggregator" in on.text()
            await on.press("escape", "y")
            assert on.app.clipboard == DIGITS

    play(scene)


def test_q_quits():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("q")
            await on.until(lambda: not on.app.is_running)

    play(scene)
