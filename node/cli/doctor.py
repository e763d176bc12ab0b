"""fednode doctor: what is wrong with this machine's node, and what to do about it."""

from pathlib import Path
from typing import Any

import click

from fednode_client import NodeNotRunning
from node.cli.common import EXIT_FAILED, Answer, common_options, one_line

_MARKS = {"ok": "✓", "warning": "!", "wrong": "✗"}
_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}
_WORDS = {"ok": "ok", "warning": "look", "wrong": "WRONG"}


@click.command()
@common_options
@click.pass_obj
def doctor(answer: Answer) -> int:
    """See what is wrong with this node, and what to do about it.

    It looks at the keys and the home, the disk and the record, the clock, the addresses, and who of the groups can be
    reached. A stopped node is looked at too, as far as its files tell. Exit code 1 if anything is wrong.

    \b
    Example:
      fednode doctor
    """
    client = answer.client()
    try:
        checks = client.doctor()["checks"]
    except NodeNotRunning:
        checks = _of_stopped(client.home)
    if answer.json:
        answer.give({"checks": checks}, "")
    else:
        _show(checks)
    return EXIT_FAILED if any(check["state"] == "wrong" for check in checks) else 0


def _of_stopped(home: Path) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from node.home.doctor import stopped_checks

    return [asdict(check) for check in stopped_checks(home)]


def _show(checks: list[dict[str, Any]]) -> None:
    names = max(len(check["name"]) for check in checks)
    for check in checks:
        state = check["state"] if check["state"] in _MARKS else "wrong"
        mark = click.style(f"{_MARKS[state]} {_WORDS[state]:<5}", fg=_COLOURS[state])
        click.echo(f"{mark}  {one_line(check['name']).ljust(names)}  {one_line(check['text'])}")
        if check["remedy"]:
            click.echo(f"         {' ' * names}  To fix: {one_line(check['remedy'])}.")
    count = {state: sum(check["state"] == state for check in checks) for state in _MARKS}
    words = {"wrong": "wrong", "warning": "to look at"}
    said = [f"{count[state]} {word}" for state, word in words.items() if count[state]]
    click.echo((", ".join(said) or "All is well") + ".")
