"""fednode store: what the record keeps, and its care: compacting, backing up, checking."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import EXIT_FAILED, Answer, clean, common_options, store_option
from node.cli.store_client import RECORD, StoreClient, asked, opened, same_file

_BLOBS = Path("blobs", "whole")


@click.group()
def store() -> None:
    """Look after the node's record: what it keeps, how much room it takes, copies of it.

    Runs, rounds, states and figures of whole rounds stay for ever. What grows is kept as long as you say; the node
    removes the rest by itself once a day.
    """


@store.command("retention")
@click.option(
    "--set", "rules", multiple=True, metavar="KIND=RULE", help="Such as logs=30d; may be given several times."
)
@common_options
@click.pass_obj
def retention(answer: Answer, rules: tuple[str, ...]) -> None:
    """Show how long the node keeps what, or change that with --set.

    \b
    A RULE is  forever
               30d                   none older than so many days
               500000rows            the newest so many (logs, spans, metrics, system_metrics)
               30d,500000rows        both
    Of checkpoints: all, or some of  first,last=3,every=10,best,running
    The newest checkpoint of each run always stays, and so does what has a name (fednode model tag). While a run goes
    on, all of its checkpoints stay, unless you add running.
    """
    client = StoreClient(answer.home)
    wanted = dict(_rule_of(text) for text in rules)
    found = (client.set_retention(wanted) if wanted else client.retention())["retention"]
    if answer.json:
        answer.give(found, "")
        return
    rows = [(entry["kind"], entry["kept"], entry["default"], entry["what"]) for entry in found]
    show.table(["KIND", "KEPT", "DEFAULT", "WHAT"], rows)
    if wanted:
        answer.hint("The node keeps to it from now on. See what goes: fednode store prune --dry-run")


def _rule_of(text: str) -> tuple[str, str]:
    kind, equals, rule = text.partition("=")
    if not equals or not kind.strip() or not rule.strip():
        raise click.BadParameter(f"{text!r} is not KIND=RULE, such as logs=30d", param_hint="--set")
    return kind.strip(), rule.strip()


@store.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common_options
@click.pass_obj
def prune(answer: Answer, dry_run: bool) -> None:
    """Remove now what no rule keeps; the node does so itself once a day.

    A blob that was stored or asked for within the last hour stays until later.
    """
    done = StoreClient(answer.home).prune(dry_run=dry_run)
    if answer.json:
        answer.give(done, "")
        return
    rows = [(kind, f"{count:,} rows", "") for kind, count in done["rows"].items()]
    rows += [(kind, f"{of['blobs']:,} blobs", show.size(of["bytes"])) for kind, of in done["blobs"].items()]
    if done["participants"]:
        rows.append(("participants", f"{done['participants']:,} runs", ""))
    if rows:
        show.table(["WOULD GO" if dry_run else "REMOVED", "HOW MANY", "BYTES"], rows)
    else:
        answer.give(done, "Nothing is there that no rule keeps.")
    if done["spared"]:
        answer.hint(f"Left alone: {done['spared']}.")
    if done["rows"] and not dry_run:
        answer.hint("Rows leave room inside the store's file; give it back to the disk: fednode store compact")


@store.command("compact")
@store_option
@common_options
@click.pass_obj
def compact(answer: Answer) -> None:
    """Give the disk back what the record does not need any more.

    The record is copied and the copy takes its place, so the disk needs room for two more of it. The node
    goes on meanwhile: what is recorded waits for seconds, and so does who reads.
    """
    client, place = asked(answer)
    if client is not None:
        done = client.compact()
    else:
        from tracker.copies import compact as compact_store

        record = opened(place)
        try:
            made = compact_store(record)
        finally:
            record.close()
        done = {"bytes_before": made.bytes_before, "bytes_after": made.bytes_after}
    before, now = done["bytes_before"], done["bytes_after"]
    saved = f"{show.size(before)} before, {show.size(now)} now."
    answer.give(done, saved if now < before else f"Nothing to give back: the record takes {show.size(now)} as it is.")


@store.command("check")
@click.option("--deep", is_flag=True, help="Read every model and artifact through, too.")
@store_option
@common_options
@click.pass_obj
def check(answer: Answer, deep: bool) -> int:
    """Read all of the record, and say what is wrong with it and what to do.

    Also whether journals can be read, and whether the models that it names are here. The exit code is 1 where something
    is wrong.
    """
    client, place = asked(answer)
    found = client.check(deep=deep) if client is not None else _checked(place, deep=deep)
    if answer.json:
        answer.give(found, "")
    else:
        rows = sum(found["rows"].values())
        state = "is sound" if found["ok"] else "is not sound"
        click.echo(clean(f"{found['store']} {state}: version {found['version']}, {rows:,} rows."))
        for entry in found["findings"]:
            mark = click.style("Error:", fg="red") if entry["error"] else "Note:"
            click.echo(f"{mark} {clean(entry['what'])}.\n  To do: {clean(entry['remedy'])}.")
    return 0 if found["ok"] else EXIT_FAILED


def _checked(place: Path, *, deep: bool) -> dict[str, Any]:
    from node.record.store_files import check_files, told
    from tracker.store import open_stopped

    with closing(open_stopped(place)) as record, closing(record.reader()) as reader:
        checked, named = reader.check(), reader.models_named()
    in_home = place.name == RECORD and (place.parent / "journals").is_dir()
    more = check_files(place.parent, named, deep=deep) if in_home else []
    return told(checked, more, str(place))


@store.command("backup")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--with-models", is_flag=True, help="FILE is a folder then, and gets the models and artifacts, too.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@store_option
@common_options
@click.pass_obj
def backup(answer: Answer, target: Path, with_models: bool, force: bool) -> None:
    """Write a copy of the whole record, as it is at this moment, into FILE. The node goes on meanwhile.

    Look into the copy with --store FILE; take it into another node with fednode import FILE; or put it back in the
    place of record.duckdb in the home of the stopped node, and remove record.duckdb.wal there: it belongs to the old
    one. Keys, groups and journals are not in it: keep those by copying the home of the stopped node.
    """
    client, place = asked(answer)
    file = target / RECORD if with_models else target
    for live in (place, StoreClient(answer.home).home / RECORD):
        _check_apart(file, live)
    if file.exists() and not force:
        raise ClientError(f"{file} is there already", remedy="name another, or replace it with --force")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if client is not None:
            with _written(file) as out:
                _write(out, client.backup())
        else:
            _copy_stopped(place, file)
        copied, missing = _copy_models(place.parent / _BLOBS, target) if with_models else (0, 0)
    except OSError as error:
        raise ClientError(
            f"{file} cannot be written ({error.strerror or error})", remedy="name another place, or make room"
        ) from None
    size = file.stat().st_size
    told = {"file": str(file.absolute()), "bytes": size, "models": copied, "models_missing": missing}
    answer.give(told, f"{file} is written: {show.size(size)}{f', {copied} blobs' if copied else ''}.")
    if missing:
        answer.hint(f"{missing} models or artifacts that the record names are not here (any more) and were left out.")


def _check_apart(file: Path, live: Path) -> None:
    """A node goes on writing into the file that it has open, whoever takes its name; and a store does not open beside
    the journal of another."""
    journal = file.with_name(file.name + ".wal")
    if same_file(file, live) or same_file(file, live.with_name(live.name + ".wal")):
        raise ClientError(f"{file} is the record itself", remedy="name a file elsewhere, best on another disk")
    if file.resolve().parent == live.resolve().with_name(live.name + ".work"):
        raise ClientError(f"{file.parent} is emptied when the node starts", remedy="name a file elsewhere")
    if journal.exists():
        raise ClientError(
            f"{journal} is there, of a store that was open at {file}: a copy would not open beside it",
            remedy="name another file; or end what has that store open, and move both away",
        )


@contextmanager
def _written(file: Path) -> Iterator[IO[bytes]]:
    """A new file that takes `file`'s place, durably, once all of it is written."""
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _write(out: IO[bytes], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        out.write(piece)


def _copy_stopped(place: Path, file: Path) -> None:
    from tracker.copies import copy_stopped

    with tempfile.TemporaryDirectory(prefix=".new-", dir=file.parent) as folder:
        copy_stopped(place, Path(folder) / RECORD)
        os.replace(Path(folder) / RECORD, file)


def _copy_models(blobs: Path, target: Path) -> tuple[int, int]:
    """Every blob that the copied record names, each seen to be what its name says. Gives how many, and how many are not
    here, or are damaged."""
    from tracker.blobs.chunks import blob_id_of_data
    from tracker.store import open_stopped

    with closing(open_stopped(target / RECORD)) as record, closing(record.reader()) as reader:
        names = {entry["blob"] for entry in reader.models_named()} | reader.schemas_named()
    folder = target / "blobs"
    folder.mkdir(exist_ok=True)
    copied = missing = 0
    for name in sorted(names):
        if (blobs / name).is_file() and blob_id_of_data(blobs / name) == name:
            with _written(folder / name) as out, (blobs / name).open("rb") as source:
                _write(out, iter(lambda: source.read(1024 * 1024), b""))
            copied += 1
        else:
            missing += 1
    return copied, missing
