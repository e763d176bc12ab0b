"""`fednode tui`: opens the dashboard on a running node, or on a stopped one's store; `--once` prints and leaves.

Nothing heavy is imported before the command runs: `fednode --help` loads this module too. Errors go up to the command
line, which knows how to tell them and what to exit with.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tui.feeds.feed import Feed

EXIT_FAILED = 1


@click.command()
@click.option("--home", metavar="FOLDER", help="The node's folder.")
@click.option(
    "--store",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Open a stopped node's or a simulation's store in the same screens.",
)
@click.option("--once", is_flag=True, help="Print how things are now, and leave.")
@click.option("--json", "as_json", is_flag=True, help="With --once: in JSON.")
@click.pass_context
def tui(context: click.Context, home: str | None, store: Path | None, once: bool, as_json: bool) -> None:
    """Watch nodes, runs, curves and logs in the terminal."""
    root = context.find_root().obj  # holds what stood before the command's name
    home = home or getattr(root, "home", None)
    as_json = as_json or getattr(root, "json", False)
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if home is not None and store is not None:
        raise click.UsageError("give either --home or --store")
    if once:
        _print_once(_snapshot_of_store(store) if store else _snapshot_of_node(home), as_json=as_json)
    elif not sys.stdout.isatty():
        raise click.UsageError("the dashboard needs a terminal; --once prints how things are now")
    else:
        _run(_store_feed(store) if store else _live_feed(home))


def _run(feed: "Feed") -> None:
    from tui.app import Dashboard

    app = Dashboard(feed)
    app.run()
    if app.return_code:
        raise click.exceptions.Exit(EXIT_FAILED)


def _live_feed(home: str | None) -> "Feed":
    from tui.feeds.client import ApiClient
    from tui.feeds.feed import LiveFeed

    return LiveFeed(lambda: ApiClient(home))


def _store_feed(path: Path) -> "Feed":
    from tui.feeds.store import StoreFeed

    return StoreFeed(path)


def _snapshot_of_node(home: str | None) -> "Mapping[str, Any]":
    from fednode import Client

    return next(Client(home).events())


def _snapshot_of_store(path: Path) -> "Mapping[str, Any]":
    from tui.feeds.store import StoreFeed

    feed = StoreFeed(path)
    try:
        return feed.snapshot()
    finally:
        feed.close()


def _print_once(snapshot: "Mapping[str, Any]", *, as_json: bool) -> None:
    from tui import once

    click.echo(once.as_json(snapshot) if as_json else once.as_text(snapshot))
