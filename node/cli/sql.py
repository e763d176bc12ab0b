"""fednode sql: the record, from the running node, or from its file while the node is stopped."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError, NodeNotRunning
from node.cli import show
from node.cli.common import Answer, common_options


@click.command()
@click.argument("statement")
@click.option("--rows", "rows_max", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.option(
    "--store",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ask this store's file instead, a simulation's for instance.",
)
@common_options
@click.pass_obj
def sql(answer: Answer, statement: str, rows_max: int, store: Path | None) -> None:
    """Ask the node's record in SQL (DuckDB's), reading only; - reads the statement from standard input.

    \b
    Which tables there are:  fednode sql "show tables"
    """
    text = sys.stdin.read() if statement == "-" else statement
    told = _from_file(store, text, rows_max) if store else _from_node(answer, text, rows_max)
    if answer.json:
        answer.give(told, "")
        return
    show.table(told["columns"], told["rows"])
    if told["truncated"]:
        answer.hint(f"There are more than {rows_max} rows; --rows asks for more of them.")


def _from_node(answer: Answer, statement: str, rows_max: int) -> dict[str, Any]:
    client = answer.client()
    try:
        return client.sql(statement, rows_max)
    except NodeNotRunning:
        return _from_file(client.home / "record.duckdb", statement, rows_max)


def _from_file(path: Path, statement: str, rows_max: int) -> dict[str, Any]:
    """The same from a stopped node's file."""
    if not path.exists():
        raise ClientError(f"There is no record at {path}", remedy="start the node once: fednode start")
    from node.api_json import json_bytes
    from tracker.store import Store

    store = Store(path, read_only=True)
    try:
        reader = store.reader()
        try:
            columns, rows, truncated = reader.sql(statement, rows_max)
        finally:
            reader.close()
    finally:
        store.close()
    told: dict[str, Any] = json.loads(json_bytes({"columns": columns, "rows": rows, "truncated": truncated}))
    return told
