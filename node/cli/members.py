"""fednode group role, remove, leave, invitations, revoke-invitation, log: who is in a group, and what was signed."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from fednode_client import Client, ClientError
from node.cli import show
from node.cli.common import Answer, clean, common_options
from node.membership.members_meant import NoSuchMember, member_meant, short_member
from protocol.errors import Refused

Json = Mapping[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def group_option(function: Function) -> Function:
    """The option that says which group."""
    return click.option("--group", help="Which group; may be left out when there is but one.")(function)


def yes_option(function: Function) -> Function:
    return click.option("--yes", is_flag=True, help="Do it without asking.")(function)


@click.command()
@click.argument("member")
@click.argument("role", type=click.Choice(["admin", "member", "observer"]))
@group_option
@common_options
@click.pass_obj
def role(answer: Answer, member: str, role: str, group: str | None) -> None:
    """Make MEMBER an admin, a member or an observer.

    Admins invite, remove and change roles; members train, propose runs and let in who holds an invitation; observers
    only follow runs. Only admins do this. A group keeps at least one admin.

    \b
    Example:
      fednode group role cleo admin
    """
    client = answer.client()
    done = client.change_role(the_group(client, group)["group_id"], member, role)
    answer.give(done, lambda: f"{member} has the role {role} in {done['group']} now.")


@click.command()
@click.argument("member")
@click.option("--reason", default="", help="Why; everybody in the group can read it, and so can who is removed.")
@group_option
@yes_option
@common_options
@click.pass_obj
def remove(answer: Answer, member: str, reason: str, group: str | None, yes: bool) -> None:
    """Remove MEMBER, with all its nodes, from a group.

    Its nodes are cut off at once, and the group's messages get a new key. Runs go on without them. What they have
    trained so far stays in the models; what they have been sent they keep. They come back only by a new invitation.

    \b
    Example:
      fednode group remove cleo --reason "left the study"
    """
    client = answer.client()
    entry = the_group(client, group)
    found = _meant(entry, member)
    _may_remove(client, entry, found)
    who, where = f"{found['name']} ({short_member(found['member_id'])})", entry["name"]
    nodes = f" and its nodes ({', '.join(node['name'] for node in found['nodes'])})" if found["nodes"] else ""
    sure(
        answer,
        yes,
        f"This removes {who}{nodes} from {where}: their connections are cut at once, runs go on without"
        " them, and they come back only by a new invitation.",
    )
    done = client.remove_member(entry["group_id"], found["member_id"], reason)
    answer.give(done, lambda: f"{who} is out of {done['group']}. Its nodes are cut off; a new key is on its way.")


def _may_remove(client: Client, group: Json, member: Json) -> None:
    """Raise what the node would refuse it with, before anybody is asked whether to go on."""
    _is_in(group)
    if member["member_id"] == client.status()["member_id"]:
        raise Refused("removing-itself", "A member does not remove itself", remedy="leave: fednode group leave")
    if group["role"] != "admin":
        role = f"your role in {group['name']} is {group['role']}"
        raise Refused("not-an-admin", f"Only admins remove members, and {role}", remedy="ask an admin to do it")


def _may_leave(client: Client, group: Json) -> None:
    _is_in(group)
    me = client.status()["member_id"]
    others = [each["role"] for each in group["members"] if each["member_id"] != me]
    if group["role"] == "admin" and others and "admin" not in others:
        raise Refused(
            "last-admin",
            f"You are the last admin of {group['name']}, and a group keeps one",
            remedy="make somebody else an admin first: fednode group role MEMBER admin",
        )


def _is_in(group: Json) -> None:
    if group["out"]:
        raise Refused("out", group["out"]["text"], remedy=group["out"]["remedy"])


@click.command()
@click.argument("group", required=False)
@yes_option
@common_options
@click.pass_obj
def leave(answer: Answer, group: str | None, yes: bool) -> None:
    """Leave GROUP with all your nodes. GROUP may be left out when there is but one.

    This node keeps its record: runs, metrics, models. The last admin of a group first makes somebody else an admin; who
    is alone in a group ends it.

    \b
    Example:
      fednode group leave hospital-study
    """
    client = answer.client()
    entry = the_group(client, group)
    _may_leave(client, entry)
    consequences = "your part in its runs ends, and you come back only by an invitation"
    if len(entry["members"]) == 1:
        consequences = "you are alone in it, so it ends for good, and nobody can come in any more"
    sure(answer, yes, f"This leaves {entry['name']} with all your nodes: {consequences}. Your record stays.")
    done = client.leave_group(entry["group_id"])
    answer.give(done, lambda: f"You are out of {done['group']}. What is in this node's record stays.")


@click.command()
@click.argument("group", required=False)
@common_options
@click.pass_obj
def invitations(answer: Answer, group: str | None) -> None:
    """List the invitations of GROUP, and which of them can still be used.

    \b
    Example:
      fednode group invitations
    """
    entry = the_group(answer.client(), group)
    found = entry["invitations"]
    if answer.json:
        answer.give(found, "")
        return
    rows = [
        (
            show.short(each["invite_id"]),
            each["role"],
            f"{each['used']} of {each['uses']}",
            each["state"],
            show.moment(each["expires_at"]),
            each["by_name"],
        )
        for each in found
    ]
    show.table(["INVITATION", "ROLE", "USED", "STATE", "EXPIRES", "BY"], rows)
    answer.hint("Make one: fednode invite. Take one back: fednode group revoke-invitation INVITATION")


@click.command("revoke-invitation")
@click.argument("invitation")
@group_option
@common_options
@click.pass_obj
def revoke_invitation(answer: Answer, invitation: str, group: str | None) -> None:
    """Take INVITATION back, so that nobody enters by it any more. Who has entered by it stays.

    INVITATION is the id, or its beginning, that fednode group invitations shows. Only admins do this.

    \b
    Example:
      fednode group revoke-invitation 3f9c2a71
    """
    client = answer.client()
    done = client.revoke_invitation(the_group(client, group)["group_id"], invitation)
    answer.give(done, lambda: f"The invitation {invitation} lets nobody into {done['group']} any more.")


@click.command("log")
@click.argument("group", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, the newest.")
@click.option("--before", metavar="HASH", help="Only what stands before this operation.")
@common_options
@click.pass_obj
def group_log(answer: Answer, group: str | None, limit: int, before: str | None) -> None:
    """Print what was signed in GROUP, in words, newest first: who let whom in, who removed whom, who began which run.

    Every line is an operation that its author's node has signed and every node holds. The times are those that the
    authors claim. What does not count says why.

    \b
    Example:
      fednode group log --limit 20
    """
    client = answer.client()
    found = client.group_history(the_group(client, group)["group_id"], limit=limit, before=before)
    if answer.json:
        answer.give(found, "")
        return
    rows = [
        (show.moment(each["claimed_at"]), _who(each), _words(each), show.short(each["hash"]))
        for each in found["operations"]
    ]
    show.table(["WHEN (AS THEY SAY)", "WHO", "WHAT", "OPERATION"], rows)
    if found["previous"]:
        answer.hint(f"Further back: fednode group log --before {show.short(found['previous'])}")


def _meant(group: Json, text: str) -> Json:
    """The member that the node will take `text` for. Raises ClientError, and Refused where several are called so."""
    try:
        return member_meant(group["name"], group["members"], text)
    except NoSuchMember as none:
        failure = ClientError(none.what, remedy=none.remedy)
        failure.code = none.code
        raise failure from None


def _who(operation: dict[str, Any]) -> str:
    """The member, and its node where that is called otherwise."""
    member, node = operation["by_member"], operation["by_name"]
    return member if member == node else f"{member} ({node})"


def _words(operation: dict[str, Any]) -> str:
    return operation["text"] if operation["counts"] else f"{operation['text']} - does not count: {operation['why']}"


def the_group(client: Client, group: str | None) -> dict[str, Any]:
    """The group that is meant: the named one, or the only one."""
    if group is not None:
        return client.group(group)
    known = client.groups()["groups"]
    found = [entry for entry in known if not entry["out"]] or known
    if len(found) == 1:
        return found[0]  # type: ignore[no-any-return]
    names = ", ".join(entry["name"] for entry in found) or "none"
    raise click.UsageError(f"This node is in {len(found)} groups ({names}): name the one that is meant.")


def sure(answer: Answer, yes: bool, consequences: str) -> None:
    """Ask before it is done. Without a person to answer, --yes must have been given."""
    if yes:
        return
    if answer.json:
        raise click.UsageError(f"{consequences} Say --yes to do it.")
    click.echo(clean(consequences), err=True)
    click.confirm("Go on?", abort=True, err=True)
