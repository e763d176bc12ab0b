"""What one expects of any program in a terminal: a theme that is remembered, and a replay's keys, like a player's."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import Provider

from tui.deeds import OwnersApp
from tui.feeds.command_line import CommandLine
from tui.feeds.feed import Feed
from tui.feeds.replay import ReplayFeed
from tui.settings import Settings
from tui.widgets.palette import Deed, Deeds
from tui.widgets.themes import HIGH_CONTRAST, THEMES


class HabitsApp(OwnersApp):
    """An app with themes, which plays where its feed is a replay."""

    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {Deeds}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "theme", "theme", show=False),
        Binding("greater_than_sign", "seek(1)", "on", key_display=">", show=False),
        Binding("less_than_sign", "seek(-1)", "back", key_display="<", show=False),
        Binding("right_curly_bracket", "speed(1)", "faster", key_display="}", show=False),
        Binding("left_curly_bracket", "speed(-1)", "slower", key_display="{", show=False),
    ]

    def __init__(self, feed: Feed, command_line: CommandLine | None, settings: Settings | None) -> None:
        super().__init__(feed, command_line)
        self._settings = settings

    @property
    def replay(self) -> ReplayFeed | None:
        """The feed, where it is one whose place and speed can be changed."""
        return self.feed if isinstance(self.feed, ReplayFeed) else None

    def begin_theme(self) -> None:
        """Put on the remembered theme, or the first."""
        self.register_theme(HIGH_CONTRAST)
        if self._settings is None:
            self.theme = THEMES[0]
            return
        if self._settings.theme not in self.available_themes:
            self._settings.theme = THEMES[0]
        self._tell_trouble(self._settings)
        self.theme = self._settings.theme

    def action_theme(self) -> None:
        known = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(known + 1) % len(THEMES)]
        self.tell(f"theme {self.theme}")

    def watch_theme(self, theme: str) -> None:
        """Whoever chose it, a theme is remembered."""
        self.set_class(theme == HIGH_CONTRAST.name, "-high-contrast")
        if self._settings and self.is_running and theme != self._settings.theme:
            self._settings.theme = theme
            self._settings.write()
            self._tell_trouble(self._settings)

    def action_seek(self, parts: int) -> None:
        if self.replay:
            self.replay.step(parts)

    def action_speed(self, step: int) -> None:
        if self.replay:
            self.replay.change_speed(step)

    def habit_deeds(self) -> list[Deed]:
        """What can be done with a replay, and with any program."""
        deeds = []
        if self.replay:
            deeds += [
                Deed("Replay: on by a twentieth", "of the whole", partial(self.action_seek, 1), ">"),
                Deed("Replay: back by a twentieth", "of the whole", partial(self.action_seek, -1), "<"),
                Deed("Replay: faster", "up to 1,000 times", partial(self.action_speed, 1), "}"),
                Deed("Replay: slower", "down to a quarter", partial(self.action_speed, -1), "{"),
            ]
        return [
            *deeds,
            Deed("Next theme", "dark, light, high contrast and more; it is remembered", self.action_theme, "t"),
            Deed("Choose a theme", "of all that there are", self.search_themes),
            Deed("Take a screenshot", "of what is shown, as an SVG file", self.deliver_screenshot),
            Deed("Quit", "the node goes on", self.exit, "q"),
        ]

    def _tell_trouble(self, settings: Settings) -> None:
        if settings.trouble:
            self.tell(settings.trouble, severity="warning")
