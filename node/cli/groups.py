"""fednode group, invite, join."""

from typing import Any

import click

from node.cli import members, show
from node.cli.common import Answer, common_options, seconds_of
from node.cli.qr import qr_code
from node.cli.tokens import token_given
from protocol.errors import Refused


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
@click.option(
    "--addr",
    "addresses",
    metavar="HOST[:PORT]",
    multiple=True,
    help="Where outsiders reach this node: a name or an address, and the port that your router forwards to the node's "
    "(with the next one, to the entrance). Stands first in the token, and members are told it while the node runs.",
)
@click.option("--qr", is_flag=True, help="Draw the token as a QR code, too, for another machine's camera.")
@common_options
@click.pass_obj
def invite(
    answer: Answer, group: str | None, role: str, uses: int, expires: int, addresses: tuple[str, ...], qr: bool
) -> None:
    """Print a token that lets somebody into a group.

    Send it over a channel that you trust: whoever has it may enter, as often as --uses says.
    """
    made = answer.client().invite(group=group, role=role, uses=uses, expires_s=expires, addresses=addresses)
    answer.give(made, made["token"])
    if qr and not answer.json:
        click.echo(qr_code(made["token"]), err=True)
    times = "once" if uses == 1 else f"{uses} times"
    answer.hint(f"It lets a {role} into {made['group']}, {times}, until {show.moment(made['expires_at'])}.")
    if made["warning"]:
        answer.hint(f"{made['warning']}.")
    if addresses:
        answer.hint(f"So that members find this node there for good: fednode start --announce {addresses[0]}")
    answer.hint("On the other machine: fednode start --detach, then fednode join TOKEN")
    answer.hint("(fednode join - reads it from the terminal, and keeps it out of the shell's history.)")


@click.command()
@click.argument("token")
@common_options
@click.pass_obj
def join(answer: Answer, token: str) -> None:
    """Enter a group with TOKEN.

    - for TOKEN reads it from standard input, so that it does not stay in the shell's history. What a token says, before
    it is used: fednode token show.
    """
    text = token_given(token)
    if said := _what_it_lets_into(text):
        answer.hint(said)
    entered = answer.client().join(text)
    if "group_id" not in entered:  # it was a device token
        answer.give(entered, lambda: f"This machine is a node of {entered['member']} now.")
        answer.hint("It enters your groups by itself, as soon as it reaches your other nodes: fednode nodes")
        return
    answer.give(entered, lambda: f"You are in {entered['name']} as {entered['role']}.")
    answer.hint("Next: fednode peers, fednode data add NAME PATH, fednode run list")


def _what_it_lets_into(text: str) -> str:
    """What the token says, before the node knocks with it, which may take half a minute; "" where it says nothing
    good, and the node will say why."""
    from protocol.invitation import read_token  # pydantic: not before it is needed
    from protocol.times import date_text

    try:
        invitation = read_token(text)
    except Refused:
        return ""
    until = date_text(invitation.expires_at)
    return f"Knocking at {invitation.group_name} as {invitation.role}; the invitation is good until {until}."
