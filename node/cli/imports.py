"""fednode import: what another node has exported, or a copy of its store, into this node's record."""

import secrets
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options
from node.cli.store_client import RECORD, asked, opened, same_file


@click.command("import")
@click.argument("source", metavar="FILE|DIR", type=click.Path(path_type=Path, exists=True))
@common_options
@click.pass_obj
def import_command(answer: Answer, source: Path) -> None:
    """Take the runs that another node has exported into this node's record.

    FILE is a copy of a store (fednode store backup, or a simulation's), DIR what fednode export parquet or
    store backup --with-models wrote. What this node saw itself stands: of a run that it took part in only log lines,
    spans, system metrics and figures within rounds of other nodes come in. Importing the same again adds nothing. The
    other node's data sets, decisions and registered names stay out. Everything is looked at first: all of it comes in,
    or nothing.
    """
    from tracker.imports.read import stage
    from tracker.tables.connect import work_folder

    client, place = asked(answer)
    if same_file(source / RECORD if (source / RECORD).is_file() else source, place):
        raise ClientError(f"{source} is this node's own record", remedy="name what another node has exported")
    record = None if client is not None else opened(place)  # before the work folder is used: opening empties it
    try:
        name = f"import-{secrets.token_hex(8)}.duckdb"
        staged = stage(source.absolute(), work_folder(place) / name)
        try:
            if client is not None:
                done = client.take_in(name, staged.models)
            else:
                done = _merged(record, staged.path, place.parent, staged.models)
        finally:
            staged.path.unlink(missing_ok=True)
    finally:
        if record is not None:
            record.close()
    if answer.json:
        answer.give(done, "")
        return
    if done["rows"]:
        show.table(["TABLE", "ROWS ADDED"], [(table, f"{count:,}") for table, count in done["rows"].items()])
    else:
        answer.give(done, "Nothing new: all of it was here already.")
    _hints(answer, done)


def _hints(answer: Answer, done: dict[str, Any]) -> None:
    if done["runs"]:
        answer.hint(f"{len(done['runs'])} runs are new here: fednode run list shows them, as imported.")
    if done["too_old"]:
        answer.hint(
            f"{done['too_old']:,} rows are older than this node keeps such (fednode store retention): left out."
        )
    if done["blobs"]:
        answer.hint(f"{done['blobs']} models and artifacts came with it.")
    if done["blobs_damaged"]:
        answer.hint(f"{done['blobs_damaged']} files of models are damaged or no plain files, and are not used.")


def _merged(record: Any, staged: Path, home: Path, models: Path | None) -> dict[str, Any]:
    """Into the store of a stopped node."""
    import time

    from tracker.blobs.blobs import BlobStore
    from tracker.imports.blobs import take_given
    from tracker.imports.merge import merge
    from tracker.retention import rules_in

    file = home / "retention.json"
    rules = rules_in(file.read_bytes() if file.exists() else None)
    done = merge(record, staged, rules, time.time())
    blobs, wrong = 0, 0
    if models is not None:
        blobs, wrong = take_given(BlobStore(home / "blobs"), models, done.blobs, home)
    return {
        "rows": done.rows,
        "runs": done.runs,
        "too_old": done.too_old,
        "blobs": blobs,
        "blobs_damaged": wrong,
    }
