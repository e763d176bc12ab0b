"""Gives the style names that drawings and tables use their colours, out of whatever theme is on."""

from collections.abc import Mapping
from typing import Any

from rich.style import Style
from textual.app import App
from textual.color import Color, ColorParseError

SELF_DARK, SELF_LIGHT = "#5fd7ff", "#00708f"
DARK_SERIES = ("#5fafff", "#87d75f", "#d787ff", "#5fd7d7", "#ff8787", "#afafff", "#b0b0b0", "#afd7af")
LIGHT_SERIES = ("#005fd7", "#3a7d00", "#8700af", "#00797d", "#b03030", "#4b4bc8", "#6a6a6a", "#4d7a4d")
ANSI_SERIES = ("blue", "green", "magenta", "cyan", "yellow", "bright_blue", "bright_green", "bright_magenta")
QUIET = 0.45  # how far quiet things fade into the background
FAINT = 0.72
CONTRAST_LEAST = 3.0  # WCAG 2.2, 1.4.11: what signs and lines need to be told from their ground
CONTRAST_VARIABLE = "contrast-least"  # a theme that promises more says it in this variable


class Look:
    """Styles by name. A name that is unknown, or empty, is plain text."""

    def __init__(self, variables: Mapping[str, str], *, dark: bool, ansi: bool) -> None:
        self._variables = variables
        self._promised = float(variables.get(CONTRAST_VARIABLE, 0.0))
        series = ANSI_SERIES if ansi else DARK_SERIES if dark else LIGHT_SERIES
        quiet = Style(dim=True) if ansi else self._faded(QUIET)
        faint = Style(dim=True) if ansi else self._faded(FAINT)
        self._styles = {
            "": Style(),
            "dim": quiet,
            "axis": quiet,
            "link": faint,
            "work": self._colour("primary", "blue", ansi),
            "heading": quiet + Style(bold=True),
            "strong": Style(bold=True),
            "good": self._colour("success", "green", ansi),
            "warn": self._colour("warning", "yellow", ansi),
            "bad": self._colour("error", "red", ansi) + Style(bold=True),
            "accent": self._colour("accent", "magenta", ansi),
            "crown": self._colour("warning", "yellow", ansi) + Style(bold=True),
            "self": Style(color="cyan" if ansi else SELF_DARK if dark else SELF_LIGHT, bold=True),
            "mean": Style(bold=True),
            "highlight": self._colour("warning", "yellow", ansi) + Style(bold=True),
            "update": self._colour("success", "green", ansi) + Style(bold=True),
            "checkpoint": self._colour("accent", "magenta", ansi) + Style(bold=True),
            "key": self._colour("accent", "magenta", ansi) + Style(bold=True),
            "match": Style(bold=True, underline=True, reverse=True),
            "here": Style(bold=True, reverse=True),
            "qr": Style(color="bright_white" if ansi else "#ffffff", bgcolor="black" if ansi else "#000000"),
            "cursor": Style(reverse=True) if ansi else self._ground("panel-lighten-2", "panel") + Style(bold=True),
            "alarm": self._colour("error", "red", ansi) + Style(bold=True, reverse=True),
            "notice": self._colour("warning", "yellow", ansi) + Style(bold=True),
            **{f"series-{index}": Style(color=colour) for index, colour in enumerate(series)},
        }

    def __getitem__(self, name: str) -> Style:
        return self._styles.get(name, self._styles[""])

    def _colour(self, variable: str, plain: str, ansi: bool) -> Style:
        if ansi:
            return Style(color=plain)
        try:
            colour, front, back = (
                Color.parse(self._variables[name]) for name in (variable, "foreground", "background")
            )
        except (KeyError, ColorParseError):
            return Style(color=plain)
        for part in (0.0, 0.2, 0.4, 0.6):
            legible = colour.blend(front, part)
            if contrast(legible, back) >= max(CONTRAST_LEAST, self._promised):
                break
        return Style(color=legible.rich_color)

    def _ground(self, *variables: str) -> Style:
        for variable in variables:
            try:
                return Style(bgcolor=Color.parse(self._variables[variable]).rich_color)
            except (KeyError, ColorParseError):
                continue
        return Style(reverse=True)

    def _faded(self, part: float) -> Style:
        try:
            front, back = (Color.parse(self._variables[name]) for name in ("foreground", "background"))
        except (KeyError, ColorParseError):
            return Style(dim=True)
        while part > 0 and contrast(front.blend(back, part), back) < self._promised:
            part -= 0.05
        return Style(color=front.blend(back, max(part, 0.0)).rich_color)


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, definitions of contrast ratio and relative luminance)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Color) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def look_of(app: App[Any]) -> Look:
    """The look of the app's theme, made once a theme."""
    theme = app.current_theme
    if theme.name not in _LOOKS:
        _LOOKS[theme.name] = Look(app.theme_variables, dark=theme.dark, ansi=theme.ansi)
    return _LOOKS[theme.name]


_LOOKS: dict[str, Look] = {}
