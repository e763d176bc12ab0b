"""What a form asks for: fields with what may stand in them. Pure; tui.widgets.forms shows them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[str, str]  # what stands in a form's fields, by their names, without spaces around it
Check = Callable[[str], str]

YES, NO = "yes", "no"


def anything(_text: str) -> str:
    """Nothing is wrong with any text."""
    return ""


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a form. `check` says what is wrong with a text that is not empty, or nothing.

    With `choices` it is one of these; "" among them stands for none.
    """

    name: str
    label: str
    help: str = ""
    value: str = ""
    choices: tuple[str, ...] = ()
    needed: bool = False
    check: Check = anything
    suggestions: tuple[str, ...] = ()
    is_token: bool = False  # what is pasted may be broken over lines, and no space belongs into it

    def trouble(self, text: str) -> str:
        """What is wrong with `text` in this field, or nothing."""
        if not text:
            return "this is needed" if self.needed else ""
        if self.choices and text not in self.choices:
            return f"one of: {', '.join(choice for choice in self.choices if choice)}"
        return self.check(text)


def whole_number(least: int, most: int) -> Check:
    """A whole number within bounds."""

    def check(text: str) -> str:
        try:
            return "" if least <= int(text) <= most else f"a whole number from {least:,} to {most:,}"
        except ValueError:
            return f"a whole number from {least:,} to {most:,}"

    return check


def at_most(characters: int) -> Check:
    """A text of bounded length."""
    return lambda text: "" if len(text) <= characters else f"at most {characters} characters"


REASON_CHARACTERS_MAX = 500  # what the node takes


def reason_field(told: str) -> Field:
    """Why somebody does something; `told` says who reads it."""
    return Field("reason", "reason", told, check=at_most(REASON_CHARACTERS_MAX))


_LENGTH = re.compile(r"([1-9]\d{0,8})([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds(text: str) -> int:
    """The seconds of a length of time such as 12h or 7d; 0 where it is none."""
    match = _LENGTH.fullmatch(text.strip().lower())
    return int(match[1]) * _UNITS_S[match[2]] if match else 0


def length_of_time(most_s: int) -> Check:
    """A length of time, written with its unit."""

    def check(text: str) -> str:
        given = seconds(text)
        if not given:
            return "a number and s, m, h, d or w, such as 12h or 7d"
        return "" if given <= most_s else f"at most {most_s // 86_400} days"

    return check
