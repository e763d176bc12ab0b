"""The command line of fednode for the dashboard: what it can do, and doing it in a process of its own.

It is handed in from below (the room of the node is not known here) as a tree of click commands.
"""

import asyncio
import codecs
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from tui.facts.commands import SWITCH, CommandSpec, Parameter, shown
from tui.facts.consequences import LEFT_OUT
from tui.facts.fields import safe
from tui.facts.forms import NO, YES, Check, Field, anything

READ_BYTES = 64 * 1024  # of what a command prints, at a time
LINE_CHARACTERS_MAX = 1_000  # wider than any terminal; longer lines are broken
GRACE_S = 5.0  # what a command gets to clean up after it was interrupted: as long as a node allows itself
# -P: whatever folder one works in, its modules are not taken for ours.
PROGRAM = (sys.executable, "-P", "-m", "node")
# Every command takes these; a window has no use for JSON, and where the node is, is settled.
_EVERYWHERE = frozenset({"home", "json", "debug", "help"})
# Words for exit codes (fednode --help has them); a signal's is negative.
ENDS = {0: "done", 1: "failed", 2: "wrong usage", 3: "the node is not running", 4: "refused", 130: "interrupted"}


class CommandLine:
    """Args:
    root: the whole tree, whose commands may be loaded when they are asked for.
    before: what stands before every command: --home and its folder.
    store: the store's file, when that is looked at and no running node.
    program: what is run.
    """

    def __init__(
        self, root: click.Group, before: Sequence[str] = (), store: str = "", *, program: Sequence[str] = PROGRAM
    ) -> None:
        self._program = tuple(program)
        self._root = root
        self._before = tuple(before)
        self.store = store
        self._specs: tuple[CommandSpec, ...] = ()
        self._loading = asyncio.Lock()

    async def specs(self) -> tuple[CommandSpec, ...]:
        """Every command but those that are left out. The first call loads all of their modules, in a thread."""
        async with self._loading:
            if not self._specs:
                self._specs = await asyncio.to_thread(specs_of, self._root)
        return self._specs

    def shown(self, words: Sequence[str]) -> str:
        """The command line as it will be run."""
        return shown((*self._before, *words))

    async def run(self, words: Sequence[str], columns: int, hear: Callable[[list[str]], object]) -> int:
        """Run a command in a process of its own, without a shell, and give its exit code.

        `hear` is given what it prints, line by line, fit for a terminal. Cancelling interrupts it, as Ctrl+C would, and
        kills it where that does not help. Raises OSError where no process can be started.
        """
        process = await asyncio.create_subprocess_exec(
            *(*self._program, *self._before, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _search_path(), "PYTHONUNBUFFERED": "1", "COLUMNS": str(columns)},
            start_new_session=True,  # so that all of it can be ended, and a Ctrl+C here is not one there
        )
        assert process.stdout is not None
        lines = _Lines()
        try:
            while piece := await process.stdout.read(READ_BYTES):
                hear(lines.take(piece))
            hear(lines.take(b"", final=True))
            return await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise


def told(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"ended by signal {-code}"
    return f"{ENDS.get(code, 'ended')} (exit code {code})"


def _search_path() -> str:
    """PYTHONPATH for a process of ours: the same fednode, also where it was never installed."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process and all that it started in its session, and wait for it. Nothing of it outlives even a
    dashboard that is closing and waits for nobody."""
    try:
        _signal(process, signal.SIGINT)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
    finally:
        _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Lines:
    """Bytes to lines that are safe to show. Of a line that writes over itself, as progress does, the last state."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def take(self, piece: bytes, *, final: bool = False) -> list[str]:
        *whole, self._rest = (self._rest + self._decoder.decode(piece, final)).split("\n")
        while len(self._rest) > LINE_CHARACTERS_MAX:
            whole.append(self._rest[:LINE_CHARACTERS_MAX])
            self._rest = self._rest[LINE_CHARACTERS_MAX:]
        if final and self._rest:
            whole.append(self._rest)
        return [safe(part) for line in whole for part in _broken(line)]


def _broken(line: str) -> Iterator[str]:
    line = line.rstrip("\r").rpartition("\r")[2].expandtabs()
    yield line[:LINE_CHARACTERS_MAX]
    for start in range(LINE_CHARACTERS_MAX, len(line), LINE_CHARACTERS_MAX):
        yield line[start : start + LINE_CHARACTERS_MAX]


# --- the tree ----------------------------------------------------------------------------------------------------
def specs_of(root: click.Group) -> tuple[CommandSpec, ...]:
    """Every command of the tree but those that are left out, in the order of its lists."""
    context = click.Context(root, info_name=root.name, obj=SimpleNamespace())  # callbacks may leave things in it
    return tuple(spec for spec in _walk(root, (), context) if spec.path not in LEFT_OUT)


def _walk(group: click.Group, path: tuple[str, ...], context: click.Context) -> Iterator[CommandSpec]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name), below)
        else:
            yield CommandSpec((*path, name), _first_paragraph(command), tuple(_parameters(command, below)))


def _first_paragraph(command: click.Command) -> str:
    return " ".join((command.help or "").strip().split("\n\n")[0].replace("\b", "").split())


def _parameters(command: click.Command, context: click.Context) -> Iterator[Parameter]:
    for parameter in command.params:
        told = parameter.to_info_dict()
        if told["name"] not in _EVERYWHERE and not told.get("hidden"):
            yield _parameter(parameter, told, context)


def _parameter(parameter: click.Parameter, told: dict[str, Any], context: click.Context) -> Parameter:
    is_switch = bool(told.get("is_flag"))
    is_many = bool(told["multiple"]) or told["nargs"] != 1
    is_option = told["param_type_name"] == "option"
    choices = tuple(map(str, told["type"].get("choices", ())))
    default = "" if told["default"] is None or is_many else str(told["default"])
    if is_switch:
        choices, default = SWITCH, YES if told["default"] is True else NO
    elif choices and not default and not told["required"]:
        choices = ("", *choices)
    flag = max(told["opts"], key=len) if is_option else ""
    field = Field(
        name=told["name"],
        label=flag.lstrip("-") or parameter.human_readable_name,
        help=told.get("help") or "",
        value=default,
        choices=choices,
        needed=told["required"],
        check=anything if choices else _check(parameter, context, is_many=is_many),
    )
    return Parameter(field, flag, told.get("metavar") or parameter.metavar or "", is_switch, is_many)


def _check(parameter: click.Parameter, context: click.Context, *, is_many: bool) -> Check:
    """What click itself says to a value, so that the form refuses just what the command would."""

    def check(text: str) -> str:
        try:
            parameter.process_value(context, tuple(shlex.split(text)) if is_many else text)
        except click.UsageError as error:
            return error.message
        except ValueError as error:
            return f"{error}: several are apart by spaces, and one with spaces stands in quotes"
        return ""

    return check
