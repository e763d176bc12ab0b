"""fednode data: the owner's own data sets."""

import json
from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options

_VALUES_SHOWN = 5  # of a column's most frequent ones; --json has more


@click.group()
def data() -> None:
    """Register your own data sets. Paths and contents never leave this machine; names do, with a run that uses them."""


@data.command("add")
@click.argument("name")
@click.argument("path", type=click.Path(exists=True))
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the task, such as target=outcome.")
@common_options
@click.pass_obj
def add(answer: Answer, name: str, path: str, options: tuple[str, ...]) -> None:
    """Register the file or folder PATH as the data set NAME (.npz, .csv, .parquet, or a folder)."""
    added = answer.client().add_data(name, path, settings_of(options))
    answer.give(
        added, lambda: f"Data set {added['name']}: {added['kind']}, {show.size(added['bytes'])}, {added['path']}"
    )
    answer.hint("Next: accept a run that uses it (fednode run list), or start one (fednode run start FILE)")


@data.command("list")
@common_options
@click.pass_obj
def list_data(answer: Answer) -> None:
    """List this node's data sets."""
    found = answer.client().data()["data"]
    if answer.json:
        answer.give(found, "")
        return
    rows = [(entry["name"], entry["kind"], show.size(entry["bytes"]), entry["path"]) for entry in found]
    show.table(["NAME", "KIND", "SIZE", "PATH"], rows)
    if not found:
        answer.hint("None yet. Register one: fednode data add NAME PATH")


@data.command("show")
@click.argument("name")
@common_options
@click.pass_obj
def show_data(answer: Answer, name: str) -> None:
    """Show what the data set NAME is like: rows, columns, missing values, classes.

    The node works this out when a data set is added, and anew when it has changed. It never leaves this machine.
    """
    found = answer.client().data_info(name)
    if answer.json:
        answer.give(found, "")
        return
    answer.give(found, f"{found['name']}: {found['kind']}, {show.size(found['bytes'])}, {found['path']}")
    about = found["statistics"]
    if "files" in about:
        answer.give(found, f"{about['files'] or 'many'} files")
        show.table(["FILES", "HOW MANY"], [*about.get("suffixes", []), *about.get("folders", [])])
    elif "columns" in about:
        rows = "an unknown number of" if about["rows"] is None else f"{about['rows']:,}"
        answer.give(found, f"{rows} rows, {len(about['columns']) + about.get('columns_left_out', 0)} columns")
        heads = ["COLUMN", "TYPE", "MISSING", "MIN", "MEDIAN", "MAX", "MEAN", "STD", "VALUES"]
        show.table(heads, [_column(column) for column in about["columns"]])
    if note := about.get("note"):
        answer.hint(f"Note: {note}.")


def _column(column: dict[str, Any]) -> list[Any]:
    shape = "x".join(map(str, column["shape"])) if len(column.get("shape", ())) > 1 else ""
    numbers = [column.get("min"), (column.get("quartiles") or [None] * 3)[1], column.get("max"), column.get("mean")]
    told = ["" if number is None else f"{number:.6g}" for number in (*numbers, column.get("std"))]
    top = column.get("top", [])
    values = ", ".join(f"{value}: {count:,}" for value, count in top[:_VALUES_SHOWN])
    return [column["name"], f"{column['type']} {shape}".strip(), column.get("missing", ""), *told, values]


@data.command("remove")
@click.argument("name")
@common_options
@click.pass_obj
def remove(answer: Answer, name: str) -> None:
    """Forget the data set NAME. The data itself stays where it is."""
    answer.client().remove_data(name)
    answer.give({"removed": name}, f"{name} is forgotten; the data itself is untouched.")


def settings_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE pairs as a table. A value is read as JSON (numbers, true, false, lists) where it is that, else text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        try:
            settings[key.strip()] = json.loads(value, parse_constant=_no_constant)
        except ValueError:
            settings[key.strip()] = value
    return settings


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are texts like any other
