"""`fednode tui`: opens the dashboard on a running node, on a stopped one's store, or on a replay; `--once` prints and
leaves.

Nothing heavy is imported before the command runs: `fednode --help` loads this module too. Errors go up to the command
line, which knows how to tell them and what to exit with.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tui.feeds.feed import Feed
    from tui.feeds.store import StoreFeed

EXIT_FAILED = 1
SPEED_MOST = 1_000.0


@click.command()
@click.option("--home", metavar="FOLDER", help="The node's folder.")
@click.option(
    "--store",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Open a stopped node's or a simulation's store in the same screens.",
)
@click.option("--replay", metavar="RUN|FILE", help="Play a run of the node's or the store's, or a recorded file.")
@click.option(
    "--speed",
    metavar="N",
    type=click.FloatRange(0.01, SPEED_MOST),
    default=1.0,
    show_default=True,
    help="With --replay: seconds of the past for one of yours.",
)
@click.option(
    "--record",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what happens meanwhile to a file that --replay plays, by custom NAME.ndjson.gz.",
)
@click.option("--once", is_flag=True, help="Print how things are now, and leave.")
@click.option("--json", "as_json", is_flag=True, help="With --once: in JSON.")
@click.pass_context
def tui(
    context: click.Context,
    home: str | None,
    store: Path | None,
    replay: str | None,
    speed: float,
    record: Path | None,
    once: bool,
    as_json: bool,
) -> None:
    """Watch nodes, runs, curves and logs in the terminal."""
    root = context.find_root().obj  # holds what stood before the command's name
    home = home or getattr(root, "home", None)
    as_json = as_json or getattr(root, "json", False)
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if home is not None and store is not None:
        raise click.UsageError("give either --home or --store")
    if replay and (once or record):
        raise click.UsageError("--replay plays what was; leave out --once and --record")
    if once and record:
        raise click.UsageError("--record goes on while one watches; leave out --once")
    if once:
        _print_once(_snapshot_of_store(store) if store else _snapshot_of_node(home), as_json=as_json)
        return
    if not sys.stdout.isatty() and "TEXTUAL_DRIVER" not in os.environ:
        raise click.UsageError("the dashboard needs a terminal; --once prints how things are now")
    with ExitStack() as closing:
        if replay:
            feed = _replay_feed(replay, home, store, speed, closing)
        else:
            feed = _store_feed(store, closing) if store else _live_feed(home)
        commands = cast(click.Group, context.find_root().command)
        _run(_recording(feed, record, closing) if record else feed, commands, home, store)


def _run(feed: "Feed", root: click.Group, home: str | None, store: Path | None) -> None:
    from tui.app import Dashboard
    from tui.feeds.command_line import CommandLine
    from tui.settings import Settings

    command_line = CommandLine(root, ("--home", home) if home else (), str(store or ""))
    app = Dashboard(feed, settings=Settings.read(), command_line=command_line)
    app.run()
    if app.return_code:
        raise click.exceptions.Exit(EXIT_FAILED)


def _live_feed(home: str | None) -> "Feed":
    from tui.feeds.client import ApiClient
    from tui.feeds.feed import LiveFeed

    return LiveFeed(lambda: ApiClient(home))


def _store_feed(path: Path, closing: ExitStack) -> "StoreFeed":
    from tui.feeds.store import StoreFeed

    feed = StoreFeed(path)
    closing.callback(feed.close)
    return feed


def _recording(feed: "Feed", path: Path, closing: ExitStack) -> "Feed":
    from tui.feeds.recording import RecordingFeed

    recording = RecordingFeed(feed, path)
    closing.callback(recording.close)
    return recording


def _replay_feed(wanted: str, home: str | None, store: Path | None, speed: float, closing: ExitStack) -> "Feed":
    """A file's replay if there is such a file, else that of the run with this name, out of the store or of the node."""
    from tui.feeds.feed import FeedError
    from tui.feeds.replay import ReplayFeed, replay_of_node, replay_of_store

    if os.path.isfile(wanted):
        from tui.feeds.recording import read_recording

        return ReplayFeed(*read_recording(Path(wanted)), speed=speed)
    try:
        if store:
            return replay_of_store(_store_feed(store, closing), wanted, speed)
        return replay_of_node(home, wanted, speed)
    except FeedError as error:
        raise click.ClickException(str(error)) from error


def _snapshot_of_node(home: str | None) -> "Mapping[str, Any]":
    from fednode import Client

    return next(Client(home).events())


def _snapshot_of_store(path: Path) -> "Mapping[str, Any]":
    with ExitStack() as closing:
        return _store_feed(path, closing).snapshot()


def _print_once(snapshot: "Mapping[str, Any]", *, as_json: bool) -> None:
    from tui import once

    click.echo(once.as_json(snapshot) if as_json else once.as_text(snapshot))
