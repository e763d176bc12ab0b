"""fednode group role, remove, leave, invitations, revoke-invitation, log: who is in a group, and what was signed."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fednode_client import Client
from node.cli import show
from node.cli.common import Answer, common_options
from node.names import PREFIX_CHARACTERS_MIN

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
    done = client.change_role(_the_group(client, group)["group_id"], member, role)
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
    entry = _the_group(client, group)
    found = member_meant(entry, member)
    who = found["name"] if found else member
    nodes = [node["name"] for node in found["nodes"]] if found else []
    with_nodes = f" and its nodes ({', '.join(nodes)})" if nodes else ""
    sure(
        answer,
        yes,
        f"This removes {who}{with_nodes} from {entry['name']}: their connections are cut at once, runs go on without"
        " them, and they come back only by a new invitation.",
    )
    done = client.remove_member(entry["group_id"], member, reason)
    answer.give(done, lambda: f"{who} is out of {done['group']}. Its nodes are cut off; a new key is on its way.")


@click.command()
@click.argument("group", required=False)
@yes_option
@common_options
@click.pass_obj
def leave(answer: Answer, group: str | None, yes: bool) -> None:
    """Leave GROUP with all your nodes. GROUP may be left out when there is but one.

    This node keeps its record: runs, metrics, models. The last admin of a group first makes somebody else an admin.

    \b
    Example:
      fednode group leave hospital-study
    """
    client = answer.client()
    entry = _the_group(client, group)
    sure(
        answer,
        yes,
        f"This leaves {entry['name']} with all your nodes: your part in its runs ends, and you come back only by an"
        " invitation. Your record stays.",
    )
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
    entry = _the_group(answer.client(), group)
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
    done = client.revoke_invitation(_the_group(client, group)["group_id"], invitation)
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
    found = client.group_history(_the_group(client, group)["group_id"], limit=limit, before=before)
    if answer.json:
        answer.give(found, "")
        return
    rows = [
        (show.moment(each["claimed_at"]), _who(each), _words(each), show.short(each["hash"]))
        for each in found["operations"]
    ]
    show.table(["CLAIMED", "WHO", "WHAT", "OPERATION"], rows)
    if found["previous"]:
        answer.hint(f"Further back: fednode group log --before {show.short(found['previous'])}")


def member_meant(group: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The member that the node will take `name` for, or None where that is none or several: then it refuses."""
    members = group["members"]
    rules: tuple[Callable[[dict[str, Any]], bool], ...] = (
        lambda each: each["member_id"] == name,
        lambda each: each["name"] == name,
        lambda each: any(name in (node["node_id"], node["name"]) for node in each["nodes"]),
        lambda each: len(name) >= PREFIX_CHARACTERS_MIN and each["member_id"].startswith(name),
    )
    found = next((matching for rule in rules if (matching := [each for each in members if rule(each)])), [])
    return found[0] if len(found) == 1 else None


def _who(operation: dict[str, Any]) -> str:
    """The member, and its node where that is called otherwise."""
    member, node = operation["by_member"], operation["by_name"]
    return member if member == node else f"{member} ({node})"


def _words(operation: dict[str, Any]) -> str:
    return operation["text"] if operation["counts"] else f"{operation['text']} - does not count: {operation['why']}"


def _the_group(client: Client, group: str | None) -> dict[str, Any]:
    """The group that is meant: the named one, or the only one."""
    if group is not None:
        return client.group(group)
    found = client.groups()["groups"]
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
    click.echo(consequences, err=True)
    click.confirm("Go on?", abort=True, err=True)
