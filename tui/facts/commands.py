"""The command line as plain values: what each command takes, the words that a filled-in form stands for. Pure.

`tui.feeds.command_line` reads these out of the command line itself, so that whatever it can do is offered here too.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tui.facts.forms import NO, YES, Field, Values

Path = tuple[str, ...]  # a command's name, word by word
PROGRAM = "fednode"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option, or without `flag` an argument."""

    field: Field
    flag: str = ""
    metavar: str = ""
    is_switch: bool = False
    is_many: bool = False  # several, written as a shell reads them: apart by spaces, quoted where they hold some

    def words(self, text: str) -> list[str]:
        """The command line's words for this. Raises ValueError for quotes that do not close."""
        if self.is_switch:
            return [self.flag] if text == YES else []
        if not text or (self.flag and text == self.field.value):
            return []
        given = shlex.split(text) if self.is_many else [text]
        if not self.flag:
            return given
        # A value that begins with a dash would be read as the next option.
        return [word for each in given for word in ([f"{self.flag}={each}"] if each[:1] == "-" else [self.flag, each])]


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command: its name's words, what it does in a sentence, and what it takes."""

    path: Path
    help: str = ""
    parameters: tuple[Parameter, ...] = field(default=())

    @property
    def name(self) -> str:
        return " ".join((PROGRAM, *self.path))

    def words(self, values: Values) -> list[str]:
        """What stands on the command line after the program's name; quotes that do not close are taken as they are."""
        options: list[str] = []
        arguments: list[str] = []
        for parameter in self.parameters:
            text = values.get(parameter.field.name, "")
            try:
                words = parameter.words(text)
            except ValueError:
                words = [text]
            (options if parameter.flag else arguments).extend(words)
        guard = ["--"] if any(word[:1] == "-" and len(word) > 1 for word in arguments) else []
        return [*self.path, *options, *guard, *arguments]


def shown(words: Sequence[str]) -> str:
    """A command line as one types it."""
    return shlex.join((PROGRAM, *words))


def prefilled(spec: CommandSpec, looked_at: Values, given: Values) -> dict[str, str]:
    """What stands in the form when it opens: what is `given` by a parameter's name or kind, then for arguments what is
    looked at, by kind: run, model, group, node, member, data."""
    values = {}
    for parameter in spec.parameters:
        name, kind = parameter.field.name, kind_of(spec.path, parameter)
        value = given.get(name, "") or given.get(kind, "") or PRESET.get((spec.path, name), "") or ALWAYS.get(name, "")
        if not value and (not parameter.flag or name == "store"):
            value = looked_at.get(kind, "") or (looked_at.get("run", "") if kind == "model" else "")
        if value:
            values[name] = shlex.quote(value) if parameter.is_many and name not in given else value
            if parameter.metavar == RUN_AND_FOLDER:  # a run alone would be taken for the folder
                values[name] += f" {shlex.quote(f'{value}-tables')}"
    return values


def kind_of(path: Path, parameter: Parameter) -> str:
    """What a parameter names, as far as the dashboard knows such things: run, model, group, node, member, data …"""
    name = parameter.field.name
    for word in (parameter.metavar, name):
        first = word.replace("[", " ").replace("]", " ").replace("|", " ").split()[:1]
        if first and first[0].lower().removesuffix("s").removesuffix("_name") in ("run", "model", "group", "member"):
            return first[0].lower().removesuffix("s").removesuffix("_name")
    return "data" if path[:1] == ("data",) and path[1:] != ("add",) and name == "name" else name


RUN_AND_FOLDER = "[RUN] DIR"  # one field for both: so the command takes them
# What the dashboard suggests where it is another surrounding than a terminal's.
PRESET: Mapping[tuple[Path, str], str] = {(("start",), "detach"): YES}
# By which a command does not ask whether one is sure: the dashboard has asked, and nobody can answer a process of its.
ALWAYS: Mapping[str, str] = {"yes": YES}

SWITCH = (NO, YES)
