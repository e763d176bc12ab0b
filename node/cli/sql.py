"""fednode sql: the record, from the running node, or from its file while the node is stopped."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednode_client import ClientError, NodeNotRunning
from node.cli import show
from node.cli.common import Answer, clean, common_options

if TYPE_CHECKING:
    from fednode_client import Client
    from node.cli.record_client import RecordClient

ROWS_SHOWN, ROWS_WRITTEN = 1000, 1_000_000  # without --rows: on the screen, and into a file (all that one answer holds)
_SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}


@click.command()
@click.argument("statement")
@click.option(
    "--rows",
    "rows_max",
    type=click.IntRange(1, ROWS_WRITTEN),
    help=f"At most so many. [default: {ROWS_SHOWN:,}; into a file {ROWS_WRITTEN:,}]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    help="json: an object for each row. [default: table, or what FILE's name ends with]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ask this store's file instead, a simulation's for instance.",
)
@common_options
@click.pass_obj
def sql(
    answer: Answer, /, statement: str, rows_max: int | None, form: str | None, output: Path | None, store: Path | None
) -> None:
    """Ask the node's record in SQL (DuckDB's), reading only; - reads the statement from standard input.

    \b
    Which tables there are:  fednode sql "show tables"
    """
    if output is not None and form is None:
        form = _SUFFIXES.get(output.suffix.lower())
        if form is None:
            raise click.UsageError(f"{output.name}: end it with {', '.join(_SUFFIXES)}, or say --format")
    form = form or "table"
    if form == "parquet" and output is None:
        raise click.UsageError("parquet is no text: name its file with -o FILE")
    rows_max = rows_max or (ROWS_WRITTEN if output else ROWS_SHOWN)
    text = sys.stdin.read() if statement == "-" else statement
    asked, types = _asked(answer, store), list[str]()
    if form in ("csv", "parquet"):
        from node.cli.look_files import exact

        text, types = exact(asked, text, form)
    told = asked.sql(text, rows_max)
    if output is None and answer.json:
        answer.give(told, "")
        return
    if form == "table" and output is None:
        show.table(told["columns"], told["rows"])
    else:
        _write(answer, told, types, form, output)
    if told["truncated"]:
        more = "--rows asks for more of them" if rows_max < ROWS_WRITTEN else "fednode export parquet writes all"
        answer.hint(f"There are more than {len(told['rows'])} rows; {more}.")


def _asked(answer: Answer, store: Path | None) -> "Client | RecordClient":
    """What answers: the file, or the node, or the stopped node's own file."""
    if store is None:
        client = answer.client()
        try:
            client.status()
        except NodeNotRunning:
            store = client.home / "record.duckdb"
            if not store.exists():
                raise ClientError(
                    f"There is no record at {store}", remedy="start the node once: fednode start"
                ) from None
        else:
            return client
    from node.cli.record_client import RecordClient

    return RecordClient(store)


def _write(answer: Answer, told: dict[str, Any], types: Sequence[str], form: str, output: Path | None) -> None:
    from node.cli import look_files

    if output is None:
        text = look_files.written(told, form)
        sys.stdout.write(clean(text) if sys.stdout.isatty() else text)  # a pipe gets every character as it is
        return
    if form == "parquet":
        look_files.write_parquet(output, told, types)
    else:
        look_files.write_text(output, look_files.written(told, form))
    rows = len(told["rows"])
    done = {"file": str(output), "rows": rows, "truncated": told["truncated"]}
    answer.give(done, f"{output} is written: {rows} {'row' if rows == 1 else 'rows'}.")
