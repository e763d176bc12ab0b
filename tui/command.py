"""`fednode tui`: opens the dashboard on a running node, or on a stopped one's store; `--once` prints and leaves.

Nothing heavy is imported before the command runs: `fednode --help` loads this module too.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tui.feed import Feed

EXIT_FAILED, EXIT_NOT_RUNNING = 1, 3
FIRST_EVENT_DEADLINE_S = 10.0  # a running node sends its snapshot at once


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="The node's home directory.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Open a stopped node's or a simulation's store file in the same screens.",
)
@click.option("--once", is_flag=True, help="Print how things are now, and leave.")
@click.option("--json", "as_json", is_flag=True, help="With --once: as JSON.")
def tui(home: Path | None, store: Path | None, once: bool, as_json: bool) -> None:
    """Watch nodes, runs, curves and logs in the terminal."""
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if home is not None and store is not None:
        raise click.UsageError("give either --home or --store")
    feed = _store_feed(store) if store else _live_feed(home)
    if once:
        _print_once(feed, as_json=as_json)
        return
    if not sys.stdout.isatty():
        raise click.UsageError("the dashboard needs a terminal; --once prints how things are now")
    from tui.app import Dashboard

    app = Dashboard(feed)
    app.run()
    if app.return_code:
        raise click.exceptions.Exit(EXIT_FAILED)


def _live_feed(home: Path | None) -> "Feed":
    from fednode import AsyncClient
    from tui.feed import LiveFeed

    return LiveFeed(lambda: AsyncClient(home))


def _store_feed(path: Path) -> "Feed":
    from tui.store_feed import StoreFeed

    return StoreFeed(path)


def _print_once(feed: "Feed", *, as_json: bool) -> None:
    import asyncio

    from tui import once

    first = asyncio.run(_first_event(feed))
    if first.get("type") != "snapshot":
        click.echo(f"{first.get('why', 'the node said nothing')}", err=True)
        raise click.exceptions.Exit(EXIT_NOT_RUNNING)
    click.echo(once.as_json(first) if as_json else once.as_text(first))


async def _first_event(feed: "Feed") -> dict[str, Any]:
    import asyncio
    from contextlib import aclosing

    events: Any = feed.events()
    try:
        async with aclosing(events) as stream, asyncio.timeout(FIRST_EVENT_DEADLINE_S):
            async for event in stream:
                return dict(event)
    except TimeoutError:
        return {"why": f"The node did not answer for {FIRST_EVENT_DEADLINE_S:.0f} s – see its log"}
    return {}
