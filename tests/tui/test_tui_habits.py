"""Habits: any size at any moment, the mouse, what is copied."""

import pytest
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage

from tui.app import TABS, VIEWS
from tui.views.bars import tab_at

SIZES = ((20, 5), (1, 1), (3, 2), (10, 40), (300, 3), (40, 12), (80, 24), (240, 80))


def a_node():
    return FakeClient(recorded(), {"rounds": rounds_answer()})


@pytest.mark.parametrize("view", VIEWS)
def test_any_size_at_any_moment(view):
    async def scene():
        async with stage(a_node(), (80, 24)) as on:
            await on.press(VIEWS[view][0])
            for width, height in SIZES:
                await on.pilot.resize_terminal(width, height)
                await on.settle()
                assert on.app.size == (width, height)
            assert f"{VIEWS[view][0]} {view}" in on.text()

    play(scene)


def test_windows_at_any_size():
    async def scene():
        async with stage(a_node(), (80, 24)) as on:
            for key in ("question_mark", "ctrl+p"):
                await on.press(key)
                for width, height in SIZES:
                    await on.pilot.resize_terminal(width, height)
                await on.press("escape")

    play(scene)


@pytest.mark.parametrize("width", [80, 160])
def test_a_click_on_a_tab_opens_its_view(width):
    async def scene():
        async with stage(a_node(), (width, 24)) as on:
            for _, name in reversed(TABS):
                state, shown = on.app.state, on.app.view.id.removeprefix("view-")
                column = next(x for x in range(width) if tab_at(state, TABS, shown, width, x) == name)
                await on.pilot.click("#top", offset=(column, 0))
                await on.settle()
                assert on.app.view.id == f"view-{name}"
            await on.pilot.click("#top", offset=(width - 1, 0))
            assert on.app.view.id == f"view-{name}", "beside the tabs nothing happens"

    play(scene)


def test_the_wheel_scrolls_and_the_keys_below_can_be_clicked():
    async def scene():
        async with stage(a_node(), (80, 24)) as on:
            await on.press("question_mark")
            top = on.app.screen.query_one("VerticalScroll")
            assert top.max_scroll_y > 0, "this page is longer than this screen"
            await on.press("j", "j")
            await on.until(lambda: top.scroll_y == 2)
            await on.press("k")
            await on.until(lambda: top.scroll_y == 1)
            await on.press("escape")
            key = next(each for each in on.app.query("FooterKey") if each.description == "help")
            await on.pilot.click(key)
            assert on.app.screen.query("VerticalScroll")

    play(scene)


def test_the_rows_id_is_copied():
    async def scene():
        async with stage(a_node(), (120, 36)) as on:
            copied = []
            on.app.copy_to_clipboard = copied.append
            await on.press("2", "y")
            assert copied == [on.app.view.table("runs").cursor_key] != [""]
            assert copied[0] in on.told()

    play(scene)
