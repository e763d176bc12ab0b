"""What all commands share: options, the way to the node, answers for people or programs, errors and exit codes."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import click

from fednode_client import Client, ClientError, NodeNotRunning, RequestRefused
from protocol.errors import FednodeError, Refused

if TYPE_CHECKING:
    from node.cli.record_client import RecordClient

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# A terminal obeys these; what other nodes' tasks print must not move our cursor, or turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_INDENT = "\n    "  # nothing of our own begins so

_HOME_HELP = "The node's folder. [default: FEDNODE_HOME, else this user's data folder]"

Function = TypeVar("Function", bound=Callable[..., Any])


class Answer:
    """How this call was asked to answer, and where its node is. The click context's object."""

    def __init__(self) -> None:
        self.home: str | None = None
        self.json = False
        self.debug = False
        self.store: Path | None = None

    def client(self) -> Client:
        return Client(self.home)

    def record(self) -> "Client | RecordClient":
        """What answers about runs: the node, or the store's file that --store names."""
        if self.store is None:
            return self.client()
        from node.cli.record_client import RecordClient  # DuckDB: only when a file is asked

        return RecordClient(self.store)

    def give(self, value: object, text: str | Callable[[], str]) -> None:
        """Print `value` as JSON for programs, else `text` for people."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False))
        else:
            click.echo(clean(text() if callable(text) else text))

    def hint(self, text: str) -> None:
        """Tell people, not programs, something beside the answer, such as the next step."""
        if not self.json:
            click.secho(clean(text), err=True, dim=sys.stderr.isatty())

    def fail(self, error: Exception) -> int:
        """Say what went wrong, why, and what to do; give the exit code."""
        if isinstance(error, ClientError | FednodeError):
            what, remedy = error.what, error.remedy
        else:
            what = f"fednode itself failed ({type(error).__name__}: {error})"
            remedy = "run it again with --debug and report what it says"
        if self.json:
            told = {"code": getattr(error, "code", "failed"), "what": what, "remedy": remedy}
            told |= getattr(error, "details", {})
            click.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)
        else:
            end = "" if what.endswith((".", "!", "?")) or "\n" in what else "."
            click.echo(f"{click.style('Error:', fg='red')} {clean(what)}{end}", err=True)
            click.echo(f"{click.style('To fix:', bold=True)} {clean(remedy)}.", err=True)
        if self.debug:
            import traceback

            traceback.print_exception(error)
        return exit_code_of(error)


def exit_code_of(error: Exception) -> int:
    if isinstance(error, NodeNotRunning):
        return EXIT_NOT_RUNNING
    if isinstance(error, RequestRefused):
        return {400: EXIT_USAGE, 409: EXIT_REFUSED}.get(error.status, EXIT_FAILED)
    if isinstance(error, Refused):
        return EXIT_USAGE if error.code.startswith("bad-") else EXIT_REFUSED
    return EXIT_FAILED


def clean(text: str) -> str:
    """`text` without what a terminal would obey. Its lines stay: see `one_line` and `indented` for others' words."""
    return _CONTROL.sub("�", text)


def one_line(text: str) -> str:
    """`text`, clean, as a cell or heading."""
    return clean(text).replace("\n", " ")


def indented(text: str) -> str:
    """A text that may have lines, such as a traceback: none but the first begins where our own lines begin, so whoever
    wrote it cannot make it look like another's."""
    return text.replace("\n", _INDENT)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    answer = context.find_root().obj
    if value and parameter.name:
        setattr(answer, parameter.name, value)


def common_options(function: Function) -> Function:
    """Add --home, --json and --debug, which every command takes; they end up in the `Answer`."""
    for option in (
        partial(click.option, "--debug", is_flag=True, help="Show tracebacks."),
        partial(click.option, "--json", is_flag=True, help="Answer in JSON, for programs."),
        partial(click.option, "--home", metavar="FOLDER", help=_HOME_HELP),
    ):
        function = option(expose_value=False, callback=_remember)(function)
    return function


def store_option(function: Function) -> Function:
    """Add --store, for commands that only read; they ask `Answer.record()`."""
    return click.option(
        "--store",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        expose_value=False,
        callback=_remember,
        help="Ask this store's file instead: a stopped node's, or a simulation's.",
    )(function)


def seconds_of(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """An option's callback: a length of time such as 90s, 30m, 12h, 7d or 2w, in seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhdw])", value.strip().lower())
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is no length of time; write a number and s, m, h, d or w: 12h, 7d")
    return int(match[1]) * _UNITS_S[match[2]]


# --- the root --------------------------------------------------------------------------------------------------
class CommandTable(click.Group):
    """A group whose commands are named in a table and loaded when used; it also turns errors into exit codes."""

    table: ClassVar[Mapping[str, tuple[str, str]]] = {}
    entry_points: ClassVar[str] = ""
    known_above: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.table, *sorted(self._found().keys() - self.table.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.table:
            module, _, attribute = self.table[cmd_name][0].partition(":")
            command = getattr(import_module(module), attribute)
        elif cmd_name in (found := self._found()):
            command = found[cmd_name].load()
        else:
            return None
        assert isinstance(command, click.Command)
        return command

    def _found(self) -> dict[str, Any]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self.entry_points)}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
        if close and close[0] != args[0] and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self._help_line(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _help_line(self, name: str) -> str:
        return self.table[name][1] if name in self.table else self.known_above.get(name, "")

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        answer = Answer()
        extra.pop("standalone_mode", None)
        try:
            given = super().main(args, prog_name, standalone_mode=False, obj=answer, **extra)
            code = given if isinstance(given, int) else 0
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort:
            code = EXIT_INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the process ends here; --debug shows the traceback
            code = answer.fail(error)
        sys.exit(code)

    @staticmethod
    def print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            from importlib.metadata import PackageNotFoundError, version

            try:
                click.echo(f"fednode {version('fednode')}")
            except PackageNotFoundError:
                click.echo("fednode, run from its source")
            ctx.exit()
