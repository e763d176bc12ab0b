"""fednode transfers, limits: what is on its way between this node and others, and how fast it may go."""

import json
import time
from pathlib import Path
from typing import Any

import click

from fednode_client import NodeNotRunning
from fednode_endpoints import home_path
from node.cli import show
from node.cli.common import Answer, common_options
from node.network.rates import rate_of, rate_words, size_of, size_text

WATCH_S = 1.0  # rates are means over seconds: more often says nothing new
BAR_CELLS = 20

Json = dict[str, Any]


@click.command()
@click.option("--watch", is_flag=True, help="Go on until you press Ctrl-C or the node stops.")
@common_options
@click.pass_obj
def transfers(answer: Answer, watch: bool) -> None:
    """List the models, updates and other blobs that have been on their way for over a second: how far each is, how fast
    it goes, and how long it will still take.

    Of what goes to others, this node knows what it has given; the taker may have the rest of somebody else. A rate
    takes two chunks (of 1 MiB) to tell: 17 s on a line of 1 Mbit/s.
    """
    client = answer.client()
    while True:
        found = client.transfers()["transfers"]
        if watch and not answer.json:
            click.clear()
        _show(answer, found)
        if not watch:
            break
        time.sleep(WATCH_S)


def _show(answer: Answer, found: list[Json]) -> None:
    if answer.json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif found:
        show.table(["WAY", "PEER", "WHAT", "", "DONE", "RATE", "LEFT"], [_row(each) for each in found])
    else:
        answer.hint("Nothing is on its way, or nothing that takes longer than a second.")


def _row(each: Json) -> list[object]:
    done, total, is_coming = each["done_bytes"], each["total_bytes"], each["direction"] == "in"
    left = "" if each["left_s"] is None else show.duration(each["left_s"])
    of_total = "of" if is_coming else "given, of at most"  # its taker may have the rest of others
    return [
        "from" if is_coming else "to",
        each["peer_name"] or show.node(each["peer"]) or "several",
        what_of(each),
        bar(done, total) if is_coming else "",
        f"{show.size(done)} {of_total} {show.size(total)}",
        f"{show.size(each['rate_bytes_per_s'])}/s" if each["rate_bytes_per_s"] else "",
        left if is_coming or not left else f"at most {left}",
    ]


def what_of(each: Json) -> str:
    """update, round 3 of study; or the blob's id, where the node does not know what it is."""
    if not each["kind"]:
        return show.short(each["blob"])
    return f"{each['kind']} of {each['run_name']}" if each["run_name"] else str(each["kind"])


def bar(done: int, total: int) -> str:
    full = BAR_CELLS if done >= total else done * BAR_CELLS // total
    return "█" * full + "░" * (BAR_CELLS - full)


@click.command()
@click.option("--up", metavar="RATE", help="How fast models and updates may leave this node: 2.5MB/s, 20Mbit/s, none.")
@click.option("--down", metavar="RATE", help="How fast they may come.")
@click.option("--blobs-max", metavar="SIZE", help="How much room models, updates and artifacts may take: 50G, none.")
@common_options
@click.pass_obj
def limits(answer: Answer, up: str | None, down: str | None, blobs_max: str | None) -> None:
    """Show the node's limits, or change them: at once, and for later starts. A node that is stopped starts with them.

    A limit is shared fairly by the nodes that want something of it, and counts for models, updates and other blobs; the
    few messages that keep a run going have no limit. A RATE counts bytes (MB/s) or bits (Mbit/s), and says which.
    Where the room that blobs may take is used up, what nothing needs any more goes first (fednode blobs gc).

    \b
    Example:
      fednode limits --up 20Mbit/s --down none
    """
    for text, read in ((up, rate_of), (down, rate_of), (blobs_max, size_of)):
        if text is not None:
            read(text)
    given = {"up": up, "down": down, "blobs_max": blobs_max}
    changes = {key: text for key, text in given.items() if text is not None}
    try:
        client = answer.client()
        found = client.set_limits(**given) if changes else client.limits()
    except NodeNotRunning as not_running:
        found = _limits_stopped(home_path(answer.home), changes, not_running)
        answer.hint("The node is stopped: this is what it starts with.")
    room, used = size_text(found["blobs_max_bytes"]), show.size(found["blobs_bytes"])
    rows = [
        ("up", rate_words(found["up_bytes_per_s"])),
        ("down", rate_words(found["down_bytes_per_s"])),
        ("blobs", f"{room}, {used} used"),
    ]
    answer.give(found, lambda: show.facts(rows))
    most = found["blobs_max_bytes"]
    if most is not None and found["blobs_bytes"] > most:
        answer.hint(
            "Blobs take more than they may: what nothing needs goes first (fednode blobs gc), and until there is room "
            "no update or model comes in, so runs go on without this node."
        )


def _limits_stopped(home: Path, changes: dict[str, str], not_running: NodeNotRunning) -> Json:
    """Of a node that is stopped: from its settings, changed. Raises `not_running` where there is no node at all."""
    from node.home.home import SETTINGS, stopped_home
    from node.home.limits import changed_limits
    from tracker.blobs.blobs import BlobStore

    if not (home / SETTINGS).exists():
        raise not_running
    with stopped_home(home):
        texts = changed_limits(home, changes)
        used = sum(entry.bytes for entry in BlobStore(home / "blobs").stored(0.0))
    return {
        "up_bytes_per_s": rate_of(texts["up"]),
        "down_bytes_per_s": rate_of(texts["down"]),
        "blobs_max_bytes": size_of(texts["blobs_max"]),
        "blobs_bytes": used,
    }
