"""fednode group, invite, join."""

import time
from typing import Any

import click

from node.cli import members, show
from node.cli.common import Answer, common_options, seconds_of
from node.cli.members import sure, yes_option
from node.cli.qr import qr_code
from node.cli.tokens import token_given
from node.membership.members_meant import short_member
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
    if not name.strip():
        raise click.UsageError("A group needs a name, such as: fednode group create hospital-study")
    made = answer.client().create_group(name)
    answer.give(made, lambda: f"Group {made['name']} ({show.short(made['group_id'])}) is there, and you are its admin.")
    answer.hint("Next: let others in with fednode invite")


@group.command("list")
@click.option("--all", "with_left", is_flag=True, help="Also those that you have left. --json always has them.")
@common_options
@click.pass_obj
def list_groups(answer: Answer, with_left: bool) -> None:
    """List the groups that this node is in, and those that it was put out of."""
    found = answer.client().groups()["groups"]
    if answer.json:
        answer.give(found, "")
        return
    shown = [entry for entry in found if with_left or show.standing(entry) != "left"]
    rows = [
        (entry["name"], show.short(entry["group_id"]), _role(entry), len(entry["members"]), _node_count(entry))
        for entry in shown
    ]
    show.table(["NAME", "GROUP", "YOUR ROLE", "MEMBERS", "NODES"], rows)
    for entry in shown:
        if show.standing(entry):
            answer.hint(show.out_words(entry))
    if left := len(found) - len(shown):
        answer.hint(f"{left} more that you have left: fednode group list --all")
    if not found:
        answer.hint("None yet. Begin one: fednode group create NAME, or enter one: fednode join TOKEN")


def _role(entry: dict[str, Any]) -> str:
    standing = show.standing(entry)
    if entry["out"]:
        return f"none: {standing}"
    return f"{entry['role']}, but {standing}" if standing else str(entry["role"])


def _node_count(entry: dict[str, Any]) -> int:
    return sum(len(member["nodes"]) for member in entry["members"])


@group.command("show")
@click.argument("group", required=False)
@common_options
@click.pass_obj
def show_group(answer: Answer, group: str | None) -> None:
    """Show GROUP's members, their nodes, and the invitations that are out. GROUP may be left out when there is but one.

    Names, organisations and contacts are what people say of themselves. A member's id is what nobody else can have: ask
    people for theirs, which fednode status shows them.
    """
    entry = members.the_group(answer.client(), group)
    if answer.json:
        answer.give(entry, "")
        return
    click.echo(
        show.facts(
            [
                ("name", entry["name"]),
                ("group id", entry["group_id"]),
                ("your role", _role(entry)),
                ("you are out", show.out_words(entry) if show.standing(entry) else ""),
                ("created", show.moment(entry["created_at"])),
                ("operations", entry["operations"]),
            ]
        )
    )
    rows = [
        (
            member["name"],
            short_member(member["member_id"]),
            member["role"],
            show.moment(member["admitted_at"]),
            member["admitted_by"],
            show.names(member["nodes"]),
            ", ".join(filter(None, (member.get("organisation"), member.get("contact")))),
        )
        for member in entry["members"]
    ]
    click.echo()
    columns = ["MEMBER", "MEMBER ID", "ROLE", "ADMITTED", "BY", "NODES", "THEY SAY OF THEMSELVES"]
    said = any(row[-1] for row in rows)  # nobody says anything in many a group, and a terminal is narrow
    show.table(columns if said else columns[:-1], rows if said else [row[:-1] for row in rows])
    if entry["former"]:
        click.echo()
        show.table(
            ["NO LONGER IN", "MEMBER ID", "SINCE", "HOW", "REASON"],
            [
                (each["name"], short_member(each["member_id"]), show.moment(each["at"]), _how(each), each["reason"])
                for each in entry["former"]
            ],
        )
    if entry.get("revoked"):
        click.echo()
        show.table(
            ["REVOKED NODE", "NODE", "OF", "SINCE", "BY"],
            [
                (each["name"], show.node(each["node_id"]), each["member"], show.moment(each["at"]), each["by"])
                for each in entry["revoked"]
            ],
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
    "(with the next one, to the entrance). For this token alone; fednode start --announce is for good.",
)
@click.option(
    "--qr",
    is_flag=True,
    help="Draw the token as a QR code, too, for another machine's camera. So that it stays small, the token names "
    "fewer places to knock at.",
)
@common_options
@click.pass_obj
def invite(
    answer: Answer, group: str | None, role: str, uses: int, expires: int, addresses: tuple[str, ...], qr: bool
) -> None:
    """Print a token that lets somebody into a group.

    Send it over a channel that you trust: whoever has it may enter, as often as --uses says.
    """
    made = answer.client().invite(group=group, role=role, uses=uses, expires_s=expires, addresses=addresses, qr=qr)
    answer.give(made, made["token"])
    if qr and not answer.json:
        click.echo(qr_code(made["token"]), err=True)
    times = "once" if uses == 1 else f"{uses} times"
    answer.hint(f"It lets a {role} into {made['group']}, {times}, until {show.moment(made['expires_at'])}.")
    if made["warning"]:
        answer.hint(f"{made['warning']}.")
    if addresses:
        answer.hint(
            "That address is in this token alone. So that members, and whoever enters by it, find this node there "
            f"later on: fednode start --announce {addresses[0]}"
        )
    answer.hint("On the other machine: fednode start --detach, then fednode join TOKEN")
    answer.hint("(fednode join, without the token, asks for it, and keeps it out of the shell's history.)")


@click.command()
@click.argument("token", required=False, default="-")
@yes_option
@common_options
@click.pass_obj
def join(answer: Answer, token: str, yes: bool) -> None:
    """Enter a group with TOKEN, or, with a device token, become one more machine of its member's.

    Without TOKEN, or with -, it is read from standard input, so that it does not stay in the shell's history. What a
    token says, before it is used: fednode token show.
    """
    text = token_given(token)
    if whose := _whose_machine(text):
        sure(answer, yes, whose)
    if said := _what_it_lets_into(text):
        answer.hint(said)
    entered = answer.client().join(text)
    if "group_id" not in entered:  # it was a device token
        answer.give(entered, lambda: f"This machine is a node of {entered['member']} now.")
        answer.hint("It enters your groups by itself, as soon as it reaches your other nodes: fednode nodes")
        return
    answer.give(entered, lambda: f"You are in {entered['name']} as {entered['role']}.")
    answer.hint("Next: fednode peers, fednode data add NAME PATH, fednode run list")


def _whose_machine(text: str) -> str:
    """What becomes of this machine by a device token; "" for any other, and for one that is not good."""
    from protocol.entrance.device_link import open_device_token  # pydantic: not before it is needed
    from protocol.token_text import DEVICE_LINK, kind_of

    try:
        if kind_of(text) is not DEVICE_LINK:
            return ""
        token = open_device_token(text, now=None)
    except Refused:
        return ""
    whose = token.member_name
    return (
        f"This is no invitation to a group: it makes this machine a node of {whose} ({token.member_id}). It enters all"
        f" groups of {whose}, and accepts the runs that {whose} proposes, as far as fednode policy lets it. Go on only"
        f" if {whose} is you."
    )


def _what_it_lets_into(text: str) -> str:
    """What the token says, before the node knocks with it, which may take half a minute; "" where it says nothing
    good, and the node will say why."""
    from protocol.entrance.invitation import read_token  # pydantic: not before it is needed
    from protocol.times import date_text

    try:
        invitation = read_token(text)
    except Refused:
        return ""
    if time.time() > invitation.expires_at:
        return ""
    until = date_text(invitation.expires_at)
    return f"Knocking at {invitation.group_name} as {invitation.role}; the invitation is good until {until}."
