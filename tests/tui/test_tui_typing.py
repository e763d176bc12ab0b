"""What somebody new stumbles over: keys that come faster than they are handled, and windows with too little room."""

import asyncio
from types import SimpleNamespace

from test_tui_actions import client_of, line_of, screen
from textual.command import CommandPalette
from textual.widgets import Input, Static, TextArea
from tui_stage import play, stage

from tui.drawing.axes import Frame
from tui.drawing.chart import draw_chart
from tui.drawing.picture import Span
from tui.facts.curves import Curves, CurveSet, Kind
from tui.facts.runs import Run
from tui.views.run_list_rows import BAR_WIDTH, COLUMNS
from tui.widgets.chart_panel import ChartPanel
from tui.widgets.page import Page
from tui.widgets.propose import ProposeForm
from tui.widgets.windows import TokenWindow


def test_a_field_that_is_typed_into_quickly_keeps_every_letter_and_comes_to_rest():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            editor = form.rows["name"].editor
            editor.focus()
            await on.pilot.pause()
            editor.value = ""
            for letter in "night shift":  # without a pause in which the form would hear of it
                editor.insert_text_at_cursor(letter)
            await on.pilot.pause()
            await on.until(lambda: 'name = "night shift"' in form.query_one(TextArea).text)
            heard = []
            form.watch(editor, "value", heard.append, init=False)
            await on.settle()
            assert (editor.value, editor.cursor_position, heard) == ("night shift", len("night shift"), [])

    play(scene)


def test_fields_that_change_at_once_do_not_set_each_other_back():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            for name, value in (("training.rounds", "7"), ("name", "night"), ("roster.nodes_min", "3")):
                form.rows[name].value = value
            await on.until(lambda: "rounds = 7" in form.query_one(TextArea).text)
            await on.settle()
            text = form.query_one(TextArea).text
            assert all(line in text for line in ("rounds = 7", 'name = "night"', "nodes_min = 3"))
            assert [form.rows[name].value for name in ("training.rounds", "roster.nodes_min")] == ["7", "3"]

    play(scene)


def test_what_is_typed_while_the_palette_still_loads_is_found_when_it_has():
    async def scene():
        async with stage(client_of(), command_line=line_of()) as on:
            loaded, load = asyncio.Event(), on.app.actions.load

            async def slowly():
                await loaded.wait()
                await load()

            on.app.actions.load = slowly
            await on.press("ctrl+p")
            palette = await screen(on, CommandPalette)
            palette.query_one(Input).value = "join"
            await on.pilot.pause()
            palette.query_one(Input).value = "join a"
            await on.pilot.pause()
            loaded.set()
            await on.until(lambda: "Join a group with a token" in on.text())

    play(scene)


def test_a_field_that_was_emptied_shows_faintly_what_holds_now():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            row = form.rows["training.rounds"]
            row.editor.focus()
            await on.press("ctrl+u")
            assert row.value == ""
            assert "#rounds = 10" in form.query_one(TextArea).text
            await on.until(lambda: "rounds           10" in on.text())

    play(scene)


def test_a_code_that_does_not_fit_says_so_instead_of_being_cut_off():
    async def scene():
        async with stage(client_of(), (120, 30)) as on:
            on.app.push_screen(TokenWindow("Invitation", "Who has it enters.", "fednode1-" + "ab" * 500))
            await screen(on, TokenWindow)
            await on.until(lambda: "A QR code of this needs" in on.text())
            assert "▀▄" not in on.text()
            assert "this one has 120 × 30." in on.text()
            await on.pilot.resize_terminal(120, 70)
            await on.until(lambda: "▀▄" in on.text())
            assert "A QR code of this needs" not in on.text()

    play(scene)


def test_a_page_is_written_anew_when_a_scroll_bar_takes_a_column_from_it():
    async def scene():
        async with stage(client_of()) as on:
            page, widths = Page(id="page"), []
            await on.app.mount(page)
            page.styles.width, page.styles.height = 40, 6

            def write(width):
                widths.append(width)
                return [[Span("x" * width)]] * 20

            page.show(write, "")
            await on.until(lambda: widths[-1:] == [page.query_one(Static).size.width] and page.show_vertical_scrollbar)

    play(scene)


def test_before_the_first_round_no_curve_is_promised():
    async def scene():
        async with stage(client_of()) as on:
            chart = ChartPanel(id="bare")
            chart.show_glance(SimpleNamespace(curves=Curves(), kind=None, run=None, state=on.app.state))
            assert "more curve" not in chart.words[1]

    play(scene)


def test_beside_the_cursors_words_no_half_words_are_left():
    points = [(place, place / 100) for place in range(101)]
    curves = CurveSet(Kind("global", "eval", "accuracy"), {"a": points}, points)
    for cursor in range(101):
        below = draw_chart(curves, {"a": "anna"}, 60, 12, frame=Frame(cursor=cursor)).plain().splitlines()[-1].split()
        at = below.index("round")
        assert below[at + 1] == str(cursor)
        assert {*below[:at], *below[at + 2 :]} <= {*map(str, range(0, 101, 5)), "round"}, below


def test_what_a_run_waited_for_is_not_said_of_one_that_is_over():
    told = {"run_id": "r", "note": "2 of at least 3 nodes are ready", "reason": "stopped by Anna"}
    assert Run.of({**told, "state": "GATHERING"}).note == told["note"]
    assert Run.of({**told, "state": "STOPPED"}).note == ""


def test_the_list_of_runs_has_room_for_hundreds_of_rounds():
    (column,) = (each for each in COLUMNS if each.title == "round")
    assert column.least >= BAR_WIDTH + len(" 300/300")
