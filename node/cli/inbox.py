"""fednode inbox: what waits for you, and what you have seen of it."""

from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, one_line

Json = dict[str, Any]


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def inbox(context: click.Context) -> None:
    """Show everything that waits for you, in one list.

    \b
    A question stays until it has your answer:
      proposal         a run that somebody proposes    fednode run accept, fednode run decline
    All else stays until you say that you have seen it, with fednode inbox seen ID:
      joiner           who has come into one of your groups, and who admitted them
      refused-updates  updates that an aggregator refused: yours, or others' where you aggregated
      failed-audit     an aggregator that was proven to lie
      failed-run       a run of yours, or your part in one, that has failed
      paused-run       a run of yours that does not go on
      low-disk         the disk is nearly full
      trouble          something else that your node cannot do now
    """
    if context.invoked_subcommand is None:
        _list(context.obj)


@inbox.command("list")
@common_options
@click.pass_obj
def list_items(answer: Answer) -> None:
    """List what waits for you: first what you must answer, then what you should look at."""
    _list(answer)


def _list(answer: Answer) -> None:
    found = answer.client().inbox()["inbox"]
    if answer.json:
        answer.give(found, "")
        return
    for each in found:
        sign = "?" if each["needs"] == "answer" else "!"
        click.echo(
            one_line(f"{sign} {each['title']}  ({each['kind']}, {show.moment(each['time']) or 'some time ago'})")
        )
        click.echo(f"  {one_line(each['text'])}")
        click.echo(f"  {one_line(_next_step(each))}\n")
    answer.hint("Nothing waits for you." if not found else "All of it with keys: fednode tui, then i")


def _next_step(each: Json) -> str:
    if each["needs"] == "answer":
        run = show.short(each["run_id"])
        return f"fednode run show {run}, then fednode run accept {run} or fednode run decline {run}"
    return f"seen: fednode inbox seen {each['id']}"


@inbox.command("seen")
@click.argument("item", metavar="ID")
@common_options
@click.pass_obj
def seen(answer: Answer, item: str) -> None:
    """Say that you have seen the item ID, or the one whose id begins so: it leaves the inbox. Nothing else changes."""
    answer.client().seen(item)
    answer.give({"seen": item}, "Seen: it is out of the inbox.")
