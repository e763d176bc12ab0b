"""fednode link, nodes, profile: your own machines, and what you say of yourself."""

from typing import Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options, seconds_of
from node.cli.members import sure, yes_option
from node.cli.qr import qr_code
from node.names import id_named
from protocol.errors import Refused

Json = dict[str, Any]


@click.command()
@click.option(
    "--expires", callback=seconds_of, default="1h", show_default=True, help="How long the token is good for: 30m, 1d."
)
@click.option("--qr", is_flag=True, help="Draw the token as a QR code, too, for another machine's camera.")
@common_options
@click.pass_obj
def link(answer: Answer, expires: int, qr: bool) -> None:
    """Print a device token that makes one more machine a node of yours, in all your groups, present and future.

    It works once. Keep it to yourself: whoever uses it first has a node of yours. The machine gets no key of yours: if
    it is lost, fednode nodes revoke shuts it out.

    \b
    Example:
      fednode link                            here
      fednode start --detach --link TOKEN     on the other machine
    """
    made = answer.client().link_node(expires_s=expires)
    answer.give(made, made["token"])
    if qr and not answer.json:
        click.echo(qr_code(made["token"]), err=True)
    answer.hint(f"It makes one machine a node of yours, until {show.moment(made['expires_at'])}.")
    if made["warning"]:
        answer.hint(f"{made['warning']}.")
    answer.hint(
        "On that machine: fednode start --detach --link TOKEN (if a node runs there already: fednode join TOKEN)"
    )


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def nodes(context: click.Context) -> None:
    """List your own nodes and device tokens, and shut out a node that is lost.

    \b
      fednode link                     a token for one more machine
      fednode nodes revoke NODE        a lost laptop: out of everything, for good
      fednode nodes revoke-link LINK   a device token that others may have seen
    """
    if context.invoked_subcommand is None:
        _list(context.obj)


@nodes.command("list")
@common_options
@click.pass_obj
def list_nodes(answer: Answer) -> None:
    """List your own nodes, which groups each is in, and which of them hold your member's key."""
    _list(answer)


def _list(answer: Answer) -> None:
    told = answer.client().nodes()
    if answer.json:
        answer.give(told, "")
        return
    rows = [
        (
            each["name"],
            show.node(each["node_id"]),
            _state(each),
            show.moment(each["last_heard_at"]),
            ", ".join(each["groups"]),
            "yes" if each["holds_member_key"] else "",
        )
        for each in told["nodes"]
    ]
    show.table(["NAME", "NODE", "STATE", "LAST HEARD", "GROUPS", "HOLDS YOUR KEY"], rows)
    links = [(show.short(each["link_id"]), show.moment(each["expires_at"]), _user(each)) for each in told["links"]]
    if links:
        click.echo()
        show.table(["DEVICE TOKEN", "GOOD UNTIL", "USED BY"], links)
    if len(told["nodes"]) == 1:
        answer.hint("One more machine as a node of yours: fednode link")


def _user(link: Json) -> str:
    return "nobody: revoked" if link["revoked"] else link["used_by"] or ""


def _state(each: Json) -> str:
    if each["revoked_at"]:
        return f"revoked {show.moment(each['revoked_at'])}"
    return "this node" if each["is_self"] else "connected" if each["connected"] else "away"


@nodes.command("revoke")
@click.argument("node")
@yes_option
@common_options
@click.pass_obj
def revoke(answer: Answer, node: str, yes: bool) -> None:
    """Shut NODE, one of your own nodes, out of everything: a laptop that was lost or sold.

    It is out of all your groups, your other nodes let it in no more, and its connections are cut. The groups' messages
    get new keys. What it has been sent it keeps. There is no way back for that node: set the machine up anew.

    \b
    Example:
      fednode nodes revoke laptop
    """
    client = answer.client()
    found = _to_revoke(client.nodes(), node)
    groups = f"out of {', '.join(found['groups'])}" if found["groups"] else "out, in whatever groups it is"
    key = (
        " It holds your member's key too: whoever has it can still make nodes in your name." * found["holds_member_key"]
    )
    sure(
        answer,
        yes,
        f"This shuts your node {found['name']} ({show.node(found['node_id'])}) {groups}, and away from your other"
        f" nodes, for good: the machine comes back only with a new home and a new device token.{key}",
    )
    done = client.revoke_node(found["node_id"])
    where = f" in {', '.join(done['groups'])} and" if done["groups"] else ""
    answer.give(done, lambda: f"{done['name']} is revoked{where} among your nodes. Whoever is away hears of it later.")


@nodes.command("revoke-link")
@click.argument("link")
@common_options
@click.pass_obj
def revoke_link(answer: Answer, link: str) -> None:
    """Take LINK, a device token that nobody has used, back: it makes no machine a node of yours any more.

    LINK is the id, or its beginning, that fednode nodes shows on the node that made it. A machine that has used it is
    shut out by fednode nodes revoke.

    \b
    Example:
      fednode nodes revoke-link 3f9c2a71
    """
    done = answer.client().revoke_link(link)
    answer.give(done, lambda: f"The device token {show.short(done['link_id'])} links no machine any more.")


def _to_revoke(told: Json, text: str) -> Json:
    """The node that is meant. Raises what the node would refuse it with, before anybody is asked whether to go on."""
    by_id = {each["node_id"]: each for each in told["nodes"]}
    names = {node_id: each["name"] for node_id, each in by_id.items()}
    # Of several with one name, the one that is still in is meant.
    meant = id_named(text, {key: name for key, name in names.items() if not by_id[key]["revoked_at"]})
    meant = meant or id_named(text, names)
    if meant is None:
        failure = ClientError(
            f"You have no node {text!r}; you have: {', '.join(sorted(names.values()))}", remedy="see fednode nodes"
        )
        failure.code = "no-such-node"
        raise failure
    if by_id[meant]["is_self"]:
        raise Refused(
            "revoking-itself",
            "A node does not revoke itself",
            remedy="revoke it from another node that holds the member's key, or leave the groups",
        )
    if by_id[meant]["revoked_at"]:
        raise Refused("no-change", f"{names[meant]} is revoked already", remedy="nothing to do")
    if not told["holds_member_key"]:
        holders = [each["name"] for each in told["nodes"] if each["holds_member_key"] and not each["revoked_at"]]
        there = (
            f"do it on {' or '.join(holders)}, which holds it" if holders else "do it on the node that linked this one"
        )
        raise Refused(
            "no-member-key",
            "To revoke a node needs your member's key, and this node was linked without it",
            remedy=f"{there}, or bring the key here: fednode key import",
        )
    found: Json = by_id[meant]
    return found


@click.command()
@click.option("--name", help="What others call you.")
@click.option("--organisation", help='Your organisation; "" for none.')
@click.option("--contact", help='How others reach you: a mail address, a telephone number; "" for none.')
@common_options
@click.pass_obj
def profile(answer: Answer, name: str | None, organisation: str | None, contact: str | None) -> None:
    """Show, or change, what you say of yourself to your groups, present and future.

    Nobody checks it: others are shown it as your own word. Your member id is what they can rely on.

    \b
    Example:
      fednode profile --organisation "St. Anna Hospital" --contact imaging@anna.example
    """
    client = answer.client()
    changes = {"name": name, "organisation": organisation, "contact": contact}
    if any(value is not None for value in changes.values()):
        told = client.set_profile(**changes)
        answer.hint("Your groups are told.")
    else:
        told = client.profile()
    answer.give(told, lambda: show.facts([(key, told[key] or "(not said)") for key in changes]))
