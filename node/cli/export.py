"""fednode export: runs for other tools, written by this command's own process from what the node tells."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, clean, common_options, store_option

_TELL_AFTER_S = 1.0  # what is done sooner needs no words
_TELL_EVERY_S = {True: 0.2, False: 10.0}  # on a terminal, where a line takes the place of the last, and elsewhere
_LINE_CHARACTERS_MAX = 76

_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def export() -> None:
    """Export runs to MLflow, TensorBoard or Parquet."""


@export.command()
@click.argument("run_name", metavar="RUN")
@click.option("--to", "uri", required=True, envvar="MLFLOW_TRACKING_URI", help="The server's http:// address.")
@click.option("--experiment", help="[default: GROUP_>_PROJECT_>_EXPERIMENT of the run]")
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option(
    "--flat", is_flag=True, help="All in one run of MLflow's, with no child runs: NODE/loss, NODE_local_loss."
)
@store_option
@common_options
@click.pass_obj
def mlflow(answer: Answer, run_name: str, uri: str, experiment: str | None, follow: bool, flat: bool) -> None:
    """Put RUN into an MLflow server: its means in one run, each node's figures in a child run.

    Do it again at any time: only what is new is added. MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD, are used where the server asks for them.
    """
    from node.exports.mlflow import MlflowExport
    from node.exports.mlflow_api import MlflowServer

    server = MlflowServer(uri)
    source = answer.record()
    try:
        with _progress(answer) as tell:
            is_file = answer.store is not None
            made = MlflowExport(
                server, source, run_name, experiment=experiment, is_whole=is_file, is_flat=flat, tell=tell
            )
            told = made.follow() if follow and not is_file else made.once()
    finally:
        server.close()
    answer.give(told, lambda: f"{told['points_added']} points added, {told['children']} nodes: {told['url']}")
    answer.hint(f"Model: {told['model']}. Artifacts: {told['artifacts']}.")


@export.command()
@click.argument("run_name", metavar="RUN")
@_folder
@store_option
@common_options
@click.pass_obj
def tensorboard(answer: Answer, run_name: str, folder: Path) -> None:
    """Write RUN below DIR for TensorBoard: a folder for each node, and one for the mean over them.

    A later export of the same run takes the place of the earlier one.
    """
    from node.exports.tensorboard import export_tensorboard

    with _progress(answer) as tell:
        told = export_tensorboard(answer.record(), run_name, folder.absolute(), tell)
    answer.give(told, lambda: f"{told['scalars']} scalars in {len(told['files'])} files in {told['folder']}")
    answer.hint(f"Look at it: tensorboard --logdir {folder}")


@export.command()
@click.argument("places", metavar="[RUN] DIR", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Every run, and what belongs to no run.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@store_option
@common_options
@click.pass_obj
def parquet(answer: Answer, places: tuple[str, ...], everything: bool, force: bool) -> None:
    """Write the record's tables of RUN, or with --all of every run, into DIR: a Parquet file for each.

    docs/coming-from.md says what each column means.
    """
    if len(places) != (1 if everything else 2):
        raise click.UsageError("give a RUN and a folder, or --all and a folder")
    run_name, folder = None if everything else places[0], Path(places[-1])
    if not force and (there := sorted(folder.glob("*.parquet"))):
        raise ClientError(f"{there[0]} is there already", remedy="name another folder, or replace it with --force")
    from tracker.exports.parquet import export_tables

    source = answer.record()
    run_id = source.run(run_name)["run_id"] if run_name else None
    with _progress(answer) as tell:
        counts = export_tables(source.sql, folder.absolute(), run_id=run_id, tell=tell)
    told = {"folder": str(folder.absolute()), "run_id": run_id, "rows": counts}
    if answer.json:
        answer.give(told, "")
        return
    show.table(["FILE", "ROWS"], [[f"{folder / name}.parquet", count] for name, count in counts.items()])


@contextmanager
def _progress(answer: Answer) -> Iterator[Any]:
    """A function to tell how far the export is: on the error output, for people, and only when it takes long."""
    on_terminal = sys.stderr.isatty()
    next_at = time.monotonic() + _TELL_AFTER_S
    has_told = False

    def tell(text: str) -> None:
        nonlocal next_at, has_told
        if answer.json or time.monotonic() < next_at:
            return
        next_at = time.monotonic() + _TELL_EVERY_S[on_terminal]
        line = clean(text)[:_LINE_CHARACTERS_MAX]
        click.echo(f"\r{line:<{_LINE_CHARACTERS_MAX}}" if on_terminal else line, nl=not on_terminal, err=True)
        has_told = True

    try:
        yield tell
    finally:
        if has_told and on_terminal:
            click.echo(err=True)
