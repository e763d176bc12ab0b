"""fednode token show: what a token says, with no node and no network."""

import sys
import time
from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options
from protocol.errors import Refused
from protocol.limits import TOKEN_CHARACTERS_MAX

_REACHES = {
    "machine": "only from the very machine",
    "network": "from the local network",
    "anywhere": "from anywhere",
    "": "not an address that this fednode knows",
}
_INPUT_CHARACTERS_MAX = 4 * TOKEN_CHARACTERS_MAX  # a token that mail has broken into quoted lines


def token_given(text: str) -> str:
    """The token: `text`, or for - what standard input has, so that it is in no shell's history. Raises Refused."""
    given = _typed() if text == "-" else text
    bare = "".join(given.split())  # mail programs break long lines
    if not bare:
        raise Refused(
            "not-a-token", "There is no token on standard input", remedy="paste it, or give it as the argument"
        )
    return bare


def _typed() -> str:
    """What standard input has; at a terminal, what is pasted up to an empty line: mail breaks tokens into lines."""
    if not sys.stdin.isatty():
        return sys.stdin.read(_INPUT_CHARACTERS_MAX)
    click.echo("Paste the token, then press Enter on an empty line:", err=True)
    lines: list[str] = []
    while sum(map(len, lines)) < _INPUT_CHARACTERS_MAX:
        line = sys.stdin.readline(_INPUT_CHARACTERS_MAX)
        if not line.strip() and (lines or not line):
            break
        lines.append(line)
    return "".join(lines)


@click.group()
@common_options
def token() -> None:
    """Explain a token before it is used."""


@token.command("show")
@click.argument("token")
@common_options
@click.pass_obj
def show_token(answer: Answer, token: str) -> None:
    """Explain TOKEN, or - for the one on standard input, without using it.

    Says whose it is, what it is good for and until when, and where it leads. It works with no node and no network, and
    uses nothing up.

    \b
    Example:
      fednode token show - < invitation.txt
    """
    from node.membership.token_words import token_view  # pydantic: not before it is needed

    told = token_view(token_given(token), now=int(time.time()))
    answer.give(told, lambda: _in_words(told))
    if told["warning"]:
        answer.hint(f"{told['warning']}.")
    if told["state"] == "valid":
        use = "fednode join -" if told["kind"] == "invitation" else "fednode start --link -"
        answer.hint(f"Use it, on the machine that it is for, with {use}")
    else:
        answer.hint("It is of no use any more: ask for a new one, or set this machine's clock if it is wrong.")


def _in_words(told: dict[str, Any]) -> str:
    whose = (
        [("invitation to", told["group"]), ("group id", told["group_id"]), ("by node", told["inviter"])]
        if told["kind"] == "invitation"
        else [("device token of", told["member"]), ("member id", told["member_id"])]
    )
    good_for = [("role", told.get("role")), ("uses", told["uses"]), (_until(told), show.moment(told["expires_at"]))]
    places = [
        ("knocks at", f"{each['address']} ({_REACHES[each['reach']]})")
        for entrance in told["entrances"]
        for each in entrance["addresses"]
    ]
    checks = [("checked", f"{'yes' if each['good'] else 'NO'}: {each['text']}") for each in told["checks"]]
    return show.facts(
        [*whose, *good_for, *(places or [("knocks at", "nowhere")]), *checks, ("not known", told["not_known"])]
    )


def _until(told: dict[str, Any]) -> str:
    return "good until" if told["state"] == "valid" else "EXPIRED on"
