"""What is remembered, and that a damaged memory costs nothing but itself."""

import pytest
from textual.color import Color
from tui_fakes import FakeClient, recorded
from tui_stage import play, stage

from tui.app import Dashboard
from tui.feeds.feed import LiveFeed
from tui.settings import FILE_BYTES_MAX, Settings, default_path
from tui.widgets.look import contrast, look_of
from tui.widgets.themes import HIGH_CONTRAST, THEMES

TEXT_CONTRAST = 7.0  # WCAG 2.2, 1.4.6
STYLES = ("dim", "axis", "link", "work", "heading", "strong", "good", "warn", "bad", "accent", "crown", "self", "mean")
STYLES += ("highlight", "update", "checkpoint", "key", "alarm", "notice", *(f"series-{index}" for index in range(8)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "dashboard.json"


def test_a_theme_is_remembered(path):
    assert Settings.read(path) == Settings(path)
    Settings(path, theme="nord").write()
    assert Settings.read(path) == Settings(path, theme="nord")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"theme": 7}', '{"theme": null}', "[" * 50_000, " " * (FILE_BYTES_MAX + 1), "\0\xff"]
)
def test_damaged_settings_count_for_nothing_and_are_told(path, text):
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    read = Settings.read(path)
    assert read.theme == ""
    assert "damaged" in read.trouble


def test_settings_that_cannot_be_written_are_told(path):
    path.parent.write_text("a file where the folder should be")
    settings = Settings(path, theme="nord")
    settings.write()
    assert "cannot be written" in settings.trouble
    assert "cannot be read" in Settings.read(path).trouble


def test_where_settings_are_is_the_systems_matter(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "fednode" / "dashboard.json"


def dashboard(settings):
    return Dashboard(LiveFeed(FakeClient(recorded()).connect), settings=settings)


def test_the_dashboard_begins_in_the_remembered_theme_and_remembers_the_next(path):
    async def scene():
        Settings(path, theme=THEMES[1]).write()
        before = path.stat()
        app = dashboard(Settings.read(path))
        async with app.run_test(size=(80, 24)) as pilot:
            assert app.theme == THEMES[1]
            assert path.stat().st_mtime_ns == before.st_mtime_ns, "looking writes nothing"
            await pilot.press("t")
            assert app.theme == THEMES[2] == HIGH_CONTRAST.name
        assert Settings.read(path).theme == HIGH_CONTRAST.name

    play(scene)


def test_a_remembered_theme_that_is_gone_and_damage_are_no_hindrance(path):
    async def scene():
        app = dashboard(Settings(path, theme="long gone", trouble="the settings are damaged"))
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await pilot.pause()
            assert app.theme == THEMES[0]
            assert any("damaged" in each.message for each in app._notifications)
        assert not path.exists()

    play(scene)


def test_high_contrast_is_high():
    """Every style of text, on the ground and under the cursor, and the borders' words."""

    async def scene():
        async with stage(FakeClient(recorded()), (120, 36)) as on:
            on.app.theme = HIGH_CONTRAST.name
            await on.pilot.pause()
            look = look_of(on.app)
            ground = Color.parse(on.app.theme_variables["background"])
            cursor = Color.from_rich_color(look["cursor"].bgcolor)
            for name in STYLES:
                colour = look[name].color
                shown = Color.from_rich_color(colour) if colour else Color.parse(on.app.theme_variables["foreground"])
                assert contrast(shown, ground) >= TEXT_CONTRAST, name
                assert contrast(shown, cursor) >= 4.5, name
            for panel in on.app.query("RowTable, PictureView"):
                for colour in (panel.styles.border_title_color, panel.styles.border_subtitle_color, panel.styles.color):
                    assert contrast(ground + colour, ground) >= TEXT_CONTRAST, panel.id
                assert panel.styles.background.rgb == ground.rgb, panel.id
            footer = on.app.query_one("Footer")
            assert contrast(footer.styles.color, footer.styles.background) >= TEXT_CONTRAST

    play(scene)


@pytest.mark.parametrize("theme", THEMES)
def test_every_theme_has_all_colours(theme):
    async def scene():
        async with stage(FakeClient(recorded()), (80, 24)) as on:
            on.app.theme = theme
            await on.settle()
            assert "digits-mlp" in on.text()

    play(scene)


def test_without_colour_nothing_is_lost(monkeypatch):
    async def scene():
        async with stage(FakeClient(recorded()), (120, 36)) as on:
            assert on.app.no_color
            text = on.text()
            for words in ("● live", "♛", "▸"):
                assert words in text

    monkeypatch.setenv("NO_COLOR", "1")
    play(scene)
