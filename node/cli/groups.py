"""fednode group, invite, join."""

import shutil
import sys
from typing import Any

import click

from node.cli import members, show
from node.cli.common import Answer, common_options, seconds_of


@click.group()
def group() -> None:
    """Create, list and show groups: the people who trust each other to train together.

    \b
      fednode group show NAME                     members, their roles and nodes, invitations
      fednode group role MEMBER admin             give somebody another role
      fednode group remove MEMBER                 put somebody out
      fednode group leave NAME                    go
      fednode group log NAME                      what was signed, in words
    """


for command in (
    members.role,
    members.remove,
    members.leave,
    members.invitations,
    members.revoke_invitation,
    members.group_log,
):
    group.add_command(command)


@group.command("create")
@click.argument("name")
@common_options
@click.pass_obj
def create(answer: Answer, name: str) -> None:
    """Begin a group called NAME, with you as its admin."""
    made = answer.client().create_group(name)
    answer.give(made, lambda: f"Group {made['name']} ({show.short(made['group_id'])}) is there, and you are its admin.")
    answer.hint("Next: let others in with fednode invite")


@group.command("list")
@common_options
@click.pass_obj
def list_groups(answer: Answer) -> None:
    """List the groups that this node is in."""
    found = answer.client().groups()["groups"]
    if answer.json:
        answer.give(found, "")
        return
    rows = [
        (entry["name"], show.short(entry["group_id"]), entry["role"], len(entry["members"]), _node_count(entry))
        for entry in found
    ]
    show.table(["NAME", "GROUP", "YOUR ROLE", "MEMBERS", "NODES"], rows)
    if not found:
        answer.hint("None yet. Begin one: fednode group create NAME, or enter one: fednode join TOKEN")


def _node_count(entry: dict[str, Any]) -> int:
    return sum(len(member["nodes"]) for member in entry["members"])


@group.command("show")
@click.argument("group")
@common_options
@click.pass_obj
def show_group(answer: Answer, group: str) -> None:
    """Show GROUP's members, their nodes, and the invitations that are out."""
    entry = answer.client().group(group)
    if answer.json:
        answer.give(entry, "")
        return
    click.echo(
        show.facts(
            [
                ("name", entry["name"]),
                ("group id", entry["group_id"]),
                ("your role", entry["role"]),
                ("you are out", (entry["out"] or {}).get("text", "")),
                ("created", show.moment(entry["created_at"])),
                ("operations", entry["operations"]),
            ]
        )
    )
    rows = [
        (
            member["name"],
            member["role"],
            show.moment(member["admitted_at"]),
            member["admitted_by"],
            show.names(member["nodes"]),
        )
        for member in entry["members"]
    ]
    click.echo()
    show.table(["MEMBER", "ROLE", "ADMITTED", "BY", "NODES"], rows)
    if entry["former"]:
        click.echo()
        show.table(
            ["NO LONGER IN", "SINCE", "HOW", "REASON"],
            [(each["name"], show.moment(each["at"]), _how(each), each["reason"]) for each in entry["former"]],
        )
    invitations = [
        (
            show.short(invite["invite_id"]),
            invite["role"],
            f"{invite['used']} of {invite['uses']}",
            _until(invite),
            invite["by_name"],
        )
        for invite in entry["invitations"]
    ]
    if invitations:
        click.echo()
        show.table(["INVITATION", "ROLE", "USED", "VALID", "BY"], invitations)


def _until(invite: dict[str, Any]) -> str:
    return f"until {show.moment(invite['expires_at'])}" if invite["state"] == "open" else str(invite["state"])


def _how(former: dict[str, Any]) -> str:
    return f"removed by {former['by']}" if former["removed"] else "left"


@click.command()
@members.group_option
@click.option(
    "--role",
    type=click.Choice(["member", "admin", "observer"]),
    default="member",
    show_default=True,
    help="member trains and proposes runs, observer follows runs without training, admin also invites.",
)
@click.option("--uses", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many may enter by it.")
@click.option(
    "--expires", callback=seconds_of, default="7d", show_default=True, help="How long it is good for: 12h, 7d."
)
@click.option("--qr", is_flag=True, help="Draw the token as a QR code, too, for another machine's camera.")
@common_options
@click.pass_obj
def invite(answer: Answer, group: str | None, role: str, uses: int, expires: int, qr: bool) -> None:
    """Print a token that lets somebody into a group.

    Send it over a channel that you trust: whoever has it may enter, as often as --uses says.
    """
    made = answer.client().invite(group=group, role=role, uses=uses, expires_s=expires)
    answer.give(made, made["token"])
    if qr and not answer.json:
        click.echo(_qr_code(made["token"]), err=True)
    times = "once" if uses == 1 else f"{uses} times"
    answer.hint(f"It lets a {role} into {made['group']}, {times}, until {show.moment(made['expires_at'])}.")
    answer.hint("On the other machine: fednode start --detach, then fednode join TOKEN")


def _qr_code(token: str) -> str:
    """The token as a QR code of half blocks, light on dark; in capitals, which make it smaller and mean the same."""
    import io

    import segno

    code, drawn = segno.make_qr(token.upper(), error="l"), io.StringIO()
    code.terminal(drawn, border=2, compact=True)
    lines = drawn.getvalue().splitlines()
    width = shutil.get_terminal_size().columns
    if len(lines[0]) > width:
        return (
            f"The QR code is {len(lines[0])} columns wide and this terminal {width}: make it wider, or send the text."
        )
    white_on_black = click.style("", fg="bright_white", bg="black", reset=False) if sys.stderr.isatty() else ""
    return "\n".join(f"{white_on_black}{line}{click.style('') if white_on_black else ''}" for line in lines)


@click.command()
@click.argument("token")
@common_options
@click.pass_obj
def join(answer: Answer, token: str) -> None:
    """Enter a group with TOKEN, or - to read the token from standard input."""
    text = sys.stdin.read() if token == "-" else token
    entered = answer.client().join("".join(text.split()))  # mail programs break long lines
    answer.give(entered, lambda: f"You are in {entered['name']} as {entered['role']}.")
    answer.hint("Next: fednode peers, fednode data add NAME PATH, fednode run list")
