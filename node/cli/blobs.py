"""fednode blobs: what models, updates and artifacts take up, whether they are sound, and what of them can go."""

from pathlib import Path
from typing import Any

import click

from fednode_client import NodeNotRunning
from fednode_endpoints import home_path
from node.cli import show
from node.cli.common import EXIT_FAILED, Answer, clean, common_options
from node.network.rates import size_text

Json = dict[str, Any]


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def blobs(context: click.Context) -> None:
    """Show what the node's blobs (models, updates, artifacts and the like) are, and how much room they take.

    \b
      fednode blobs verify     read all of them, and set aside what is damaged
      fednode blobs gc         remove what nothing needs any more
      fednode limits           how much room they may take
    """
    if context.invoked_subcommand is None:
        _show_usage(context.obj)


@blobs.command("usage")
@common_options
@click.pass_obj
def usage(answer: Answer) -> None:
    """Show what the blobs are, and how much room they take, by kind and by run."""
    _show_usage(answer)


def _show_usage(answer: Answer) -> None:
    try:
        told = answer.client().blobs()
    except NodeNotRunning:
        told = _usage_stopped(home_path(answer.home))
    if answer.json:
        answer.give(told, "")
        return
    rows = [(each["kind"], f"{each['blobs']:,}", show.size(each["bytes"]), each["what"]) for each in told["kinds"]]
    show.table(["KIND", "BLOBS", "BYTES", "WHAT"], [row for row in rows if row[1] != "0"])
    if told["runs"]:
        click.echo()
        runs = [
            (each["name"], show.short(each["run_id"]), each["blobs"], show.size(each["bytes"])) for each in told["runs"]
        ]
        show.table(["RUN", "ID", "BLOBS", "BYTES"], runs)
        if sum(each["bytes"] for each in told["runs"]) > told["bytes"]:
            answer.hint("A blob that several runs share counts for each of them, and once in the whole.")
    room = "" if told["blobs_max_bytes"] is None else f" of {size_text(told['blobs_max_bytes'])}"
    answer.hint(
        f"{told['blobs']:,} blobs, {show.size(told['bytes'])}{room}; {show.size(told['disk_free_bytes'])} free."
    )
    if told["spared"]:
        answer.hint(f"Left alone: {told['spared']}.")


def _usage_stopped(home: Path) -> Json:
    """Without the node nobody knows what the blobs are; how many there are, and how large, the disk says."""
    import shutil

    from node.home.home import stopped_home

    with stopped_home(home):
        found = _store(home).stored(0.0)
    kinds = []
    for kind, what, is_half in (
        ("whole", "start the node to see what they are", False),
        ("halves", "on their way in, or left of damaged ones", True),
    ):
        these = [entry.bytes for entry in found if entry.is_half == is_half]
        kinds.append({"kind": kind, "what": what, "blobs": len(these), "bytes": sum(these)})
    return {
        "blobs": len(found),
        "bytes": sum(entry.bytes for entry in found),
        "kinds": kinds,
        "runs": [],
        "spared": "",
        "blobs_max_bytes": None,
        "disk_free_bytes": shutil.disk_usage(home).free,
    }


def _store(home: Path) -> Any:
    from tracker.blobs.blobs import BlobStore

    return BlobStore(home / "blobs")


@blobs.command("verify")
@common_options
@click.pass_obj
def verify(answer: Answer) -> int:
    """Read all blobs, and set aside those that are damaged. The exit code is 1 where there was one.

    The running node fetches what was damaged again, from whoever of its run has it. Where the node is stopped, a run
    that needs it does so later by itself.
    """
    try:
        told = answer.client().verify_blobs()
    except NodeNotRunning:
        told = _verify_stopped(home_path(answer.home))
    if answer.json:
        answer.give(told, "")
    else:
        sound = told["blobs"] - len(told["damaged"])
        click.echo(f"{sound:,} of {told['blobs']:,} blobs are sound ({show.size(told['bytes'])} read).")
        rows = [
            (show.short(each["blob"]), show.size(each["bytes"]), each.get("of") or "of no known run", _how_bad(each))
            for each in told["damaged"]
        ]
        if rows:
            show.table(["DAMAGED", "BYTES", "WHAT", "HOW"], rows)
            for each in told["damaged"]:  # a line each, of any length: why nobody gave it may be a long story
                click.echo(clean(f"{show.short(each['blob'])}: {each['again']}"))
            answer.hint("Check this machine's disk: sound disks do not damage files.")
    return EXIT_FAILED if told["damaged"] else 0


def _how_bad(damaged: Json) -> str:
    """Without the id, which has a column."""
    return str(damaged["what"]).removeprefix(f"The blob {damaged['blob']} is ")


def _verify_stopped(home: Path) -> Json:
    from node.home.home import stopped_home
    from protocol.errors import FednodeError

    damaged = []
    with stopped_home(home):
        store = _store(home)
        found = [entry for entry in store.stored(0.0) if not entry.is_half]
        for entry in found:
            try:
                store.verify(entry.blob)
            except FednodeError as error:
                again = "fetched again when a run needs it"
                damaged.append({"blob": entry.blob, "bytes": entry.bytes, "what": error.what, "again": again})
    return {"blobs": len(found), "bytes": sum(entry.bytes for entry in found), "damaged": damaged}


@blobs.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why.")
@common_options
@click.pass_obj
def collect(answer: Answer, dry_run: bool) -> None:
    """Remove the blobs that nothing needs: no run under way, no rule of retention, no name, no artifact, no audit.

    The node does so itself once a day, and whenever the room that they may take is used up. What was stored or asked
    for within the last hour stays until later; where the room is used up, only that of the last five minutes does. It
    needs the running node, which alone knows what its runs need.
    """
    told = answer.client().collect_blobs(dry_run=dry_run)
    if answer.json:
        answer.give(told, "")
        return
    rows = [(each["kind"], f"{each['blobs']:,}", show.size(each["bytes"]), each["why"]) for each in told["kinds"]]
    if rows:
        show.table(["WOULD GO" if dry_run else "REMOVED", "BLOBS", "BYTES", "WHY"], rows)
    else:
        answer.give(told, "Nothing can go now.")
    if told["recent"]["blobs"]:
        answer.hint(
            f"{told['recent']['blobs']:,} blobs ({show.size(told['recent']['bytes'])}) that nothing needs so far were "
            "stored, or asked for, within the last hour: they stay until then, for a run may be about to name them."
        )
    if told["spared"]:
        answer.hint(f"Left alone: {told['spared']}.")
