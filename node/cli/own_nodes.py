"""fednode link, nodes, profile: your own machines, and what you say of yourself."""

from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, seconds_of
from node.cli.members import sure, yes_option
from node.cli.qr import qr_code

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
    answer.hint(
        "On that machine: fednode start --detach --link TOKEN (if a node runs there already: fednode join TOKEN)"
    )


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def nodes(context: click.Context) -> None:
    """List your own nodes, and shut out one that is lost.

    \b
      fednode link                     a token for one more machine
      fednode nodes revoke NODE        a lost laptop: out of everything, for good
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
    links = [
        (show.short(each["link_id"]), show.moment(each["expires_at"]), each["used_by"] or "") for each in told["links"]
    ]
    if links:
        click.echo()
        show.table(["DEVICE TOKEN", "GOOD UNTIL", "USED BY"], links)
    if len(told["nodes"]) == 1:
        answer.hint("One more machine as a node of yours: fednode link")


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
    sure(
        answer,
        yes,
        f"This shuts your node {node} out of all groups and away from your other nodes, for good: the machine comes"
        " back only with a new home and a new device token.",
    )
    done = client.revoke_node(node)
    where = f" in {', '.join(done['groups'])} and" if done["groups"] else ""
    answer.give(done, lambda: f"{done['name']} is revoked{where} among your nodes. Whoever is away hears of it later.")


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
