"""Where a command takes a passphrase from: a file, standard input, the environment, or a person at a terminal.

Never from its arguments: those every user of the machine can read.
"""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from protocol.errors import Refused

PRESENT, NEW, BACKUP = "FEDNODE_PASSPHRASE", "FEDNODE_NEW_PASSPHRASE", "FEDNODE_BACKUP_PASSPHRASE"
_OPTIONS = {
    PRESENT: "--passphrase-file",
    NEW: "--new-passphrase-file",
    BACKUP: "--backup-passphrase-file",
}
PASSPHRASE_BYTES_MAX = 1024  # more is another file, named by mistake

Function = TypeVar("Function", bound=Callable[..., Any])


def passphrase_option(function: Function) -> Function:
    """The option that says where the passphrase of the home's keys is."""
    return click.option(
        "--passphrase-file",
        metavar="FILE",
        help="Where the passphrase of the keys stands, if they are under one; - is standard input. "
        f"[default: {PRESENT}, else it is asked for]",
    )(function)


def home_passphrase(home: Path, file: str | None) -> str | None:
    """The passphrase of the keys in `home` as it is given, or None. A person is asked only where there is one to
    give, and at a terminal."""
    from node.home.key_files import is_protected

    found = given(file, PRESENT)
    if found is None and is_protected(home) and can_ask():
        return asked(f"Passphrase of the keys in {home}")
    return found


def new_passphrase(file: str | None, variable: str, what: str) -> str | None:
    """A passphrase to be set, asked for twice where a person is there; None where nobody gives one. Raises Refused
    when it is too short."""
    from node.home.sealing import PASSPHRASE_CHARACTERS_MIN, check_new_passphrase

    found = given(file, variable)
    if found is None and can_ask():
        click.echo(f"At least {PASSPHRASE_CHARACTERS_MIN} characters; several words are good ones.", err=True)
        found = asked(what)
        check_new_passphrase(found)  # before it has to be typed once more
        if found != asked("Again"):
            raise Refused("bad-passphrase", "The two are not the same", remedy="try again")
    if found is not None:
        check_new_passphrase(found)
    return found


def given(file: str | None, variable: str) -> str | None:
    """What the file or the variable says. The variable is gone afterwards: no process that we start inherits it."""
    named = os.environ.pop(variable, None)
    if file is not None:
        return _checked(_read(file, _OPTIONS[variable]), "standard input" if file == "-" else file)
    return None if named is None else _checked(named.encode(errors="surrogateescape"), variable)


def handed_over(descriptor: int) -> str:
    """What the process that starts us has put into a pipe."""
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read(PASSPHRASE_BYTES_MAX).decode()


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked(prompt: str) -> str:
    """What a person types, unseen. Raises Refused for nothing, and click.Abort for Ctrl-C."""
    return _checked(click.prompt(prompt, hide_input=True, err=True, default="", show_default=False).encode(), "it")


def _read(file: str, option: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(PASSPHRASE_BYTES_MAX + 2)
    path = Path(os.path.expanduser(file))  # Path's own raises where a user is not known
    try:
        with path.open("rb") as opened:
            found = os.fstat(opened.fileno())
            _check_private(path, found, option)
            return opened.read(PASSPHRASE_BYTES_MAX + 2)
    except OSError as error:
        raise Refused(
            "no-passphrase", f"The passphrase's file {path} cannot be read ({error.strerror})", remedy="name another"
        ) from None


def _check_private(path: Path, found: os.stat_result, option: str) -> None:
    if stat.S_ISREG(found.st_mode) and (found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid())):
        raise Refused(
            "passphrase-not-private",
            f"The passphrase's file {path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
            remedy=f"chmod 600 {path}; where that is not yours to do: {option} - < {path}",
        )


def _checked(raw: bytes, place: str) -> str:
    """The passphrase in what was read: one line, without its end."""
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = line.decode("utf-8-sig")  # editors of Windows begin a file with such a mark
    except UnicodeDecodeError:
        text = ""
    if not text or len(line) > PASSPHRASE_BYTES_MAX or not text.isprintable():
        raise Refused(
            "bad-passphrase",
            f"There is no passphrase in {place}" if not line else f"What stands in {place} is no passphrase",
            remedy=f"write one line of at most {PASSPHRASE_BYTES_MAX} bytes, in UTF-8",
        )
    return text
