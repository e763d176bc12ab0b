"""`fednode web`: the dashboard in a browser. Nothing heavy is imported before the command runs."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

PORT_MOST = 65_535
DASHBOARD = (sys.executable, "-P", "-m", "node", "tui")


@click.command()
@click.option("--home", metavar="FOLDER", help="The node's folder.")
@click.option(
    "--store",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Show a stopped node's or a simulation's store.",
)
@click.option("--replay", metavar="RUN|FILE", help="Play a finished run, or a recorded file.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, PORT_MOST),
    default=0,
    help="Listen there; without it, or with 0, on a port that is free.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the browser too.")
@click.pass_context
def web(
    context: click.Context, home: str | None, store: Path | None, replay: str | None, port: int, open_browser: bool
) -> None:
    """Show the dashboard in a browser on this machine.

    Prints an address that lets one browser in, once, and listens on 127.0.0.1 alone. From another machine, forward the
    port over ssh: ssh -L 8000:127.0.0.1:8000 MACHINE, with --port 8000 there.
    """
    import asyncio

    from tui.web import DashboardServer, serve

    home = home or getattr(context.find_root().obj, "home", None)
    if home is not None and store is not None:
        raise click.UsageError("give either --home or --store")
    if store is not None:
        _refuse_store_in_use(store)
    words = list(DASHBOARD)
    for option, value in (("--home", home), ("--store", store), ("--replay", replay)):
        words += [option, str(value)] if value is not None else []
    try:
        asyncio.run(serve(DashboardServer(words, port=port), _telling(), open_browser=open_browser))
    except OSError as error:
        why = error.strerror or str(error)
        raise click.ClickException(f"cannot listen on 127.0.0.1:{port}: {why}. Give another --port") from error


def _refuse_store_in_use(store: Path) -> None:
    """Raises what opening it raises, here and now rather than in a page."""
    from tui.feeds.store import StoreFeed

    StoreFeed(store).close()


def _telling() -> Callable[[str], None]:
    """Prints the first address, and for each that was used the next."""
    first = "The dashboard is at {}\nThe address lets one browser in, once. Ctrl+C stops."
    words = iter([first])
    return lambda address: click.echo(next(words, "A browser came in. For another: {}").format(address))
