"""fednode predict: a model on data of one's own."""

import tempfile
from pathlib import Path
from typing import Any

import click

from fednode_client import Client, ClientError
from node.cli import show
from node.cli.common import Answer, clean, common_options
from node.cli.data import settings_of
from node.cli.files import refuse_to_replace

FORMATS = (".npz", ".csv", ".json", ".parquet")

Json = dict[str, Any]


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--data", "data", required=True, metavar="NAME|PATH", help="A registered data set, or a file or folder.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the task, as with data add.")
@click.option("--task", type=click.Path(exists=True, dir_okay=False), help="Your copy of the run's task file.")
@click.option(
    "--rows",
    type=click.Choice(["held-out", "all"]),
    help="Which rows. [default: held-out of a registered data set, all of other data]",
)
@click.option("--out", type=click.Path(dir_okay=False), help=f"Write predictions: {', '.join(FORMATS)}.")
@click.option("--evaluate", is_flag=True, help="Evaluate too when predictions are written.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@common_options
@click.pass_obj
def predict(
    answer: Answer,
    name: str,
    data: str,
    options: tuple[str, ...],
    task: str | None,
    rows: str | None,
    out: str | None,
    evaluate: bool,
    force: bool,
) -> None:
    """Evaluate MODEL on data of your own, or write what it predicts.

    MODEL is a run, RUN:ROUND, or a registered NAME, NAME@ALIAS, NAME:VERSION (see fednode model).
    The run's own task reads the data, in a process of its own on this machine; nothing leaves it.
    Evaluations are recorded: fednode model show MODEL.
    """
    target = None if out is None else _target(Path(out), force=force)
    client = answer.client()
    wanted: Json = {"options": settings_of(options), "rows": rows, "evaluate": target is None or evaluate}
    wanted |= _place(client, data)
    if target is None:
        done = client.predict(name, task=task, hear=_hear, **wanted)
    else:
        done = _written(client, name, task, wanted, target)
    told = {key: value for key, value in done.items() if key not in ("type", "predictions_bytes")}
    if target is not None:
        told["path"] = str(target.absolute())
    answer.give(told, lambda: _told(told))


def _place(client: Client, data: str) -> Json:
    """Registered names go first; a path that is called like one is written ./NAME."""
    registered = [entry["name"] for entry in client.data()["data"]]
    if data in registered:
        return {"data": data}
    if not Path(data).expanduser().exists():
        names = ", ".join(registered) or "none"
        raise ClientError(
            f"{data!r} is neither a registered data set nor a path; registered are: {names}",
            remedy="check the path, or see fednode data list",
        )
    return {"path": data}


def _target(target: Path, *, force: bool) -> Path:
    if target.suffix.lower() not in FORMATS:
        raise click.BadParameter(f"{target.name} ends with none of {', '.join(FORMATS)}", param_hint="--out")
    if not target.parent.is_dir():
        raise ClientError(f"There is no folder {target.parent}", remedy="make it, or name another file with --out")
    refuse_to_replace(target, force=force)
    return target


def _written(client: Client, name: str, task: str | None, wanted: Json, target: Path) -> Json:
    """Have the predictions made, and write them; beside the target first, so that it comes into being whole."""
    from node.cli.predict_files import write_as

    try:
        with tempfile.TemporaryDirectory(prefix=".fednode-", dir=target.parent) as folder:
            npz = Path(folder, "predictions.npz")
            with npz.open("wb") as file:
                done = client.predict(name, task=task, hear=_hear, write=file.write, **wanted)
            made = Path(folder, f"made{target.suffix.lower()}")
            write_as(npz, made)
            made.replace(target)
    except OSError as error:
        raise ClientError(
            f"{target} cannot be written ({error.strerror})", remedy="name another file with --out"
        ) from None
    return done


def _hear(line: Json) -> None:
    """What the task says goes where errors go: the answer may be read by a program."""
    click.secho(clean(line["text"]), err=True, dim=True)


def _told(told: Json) -> str:
    model = told["model"]
    rows = "held-out rows" if told["rows"] == "held-out" else "rows"
    lines = [f"Round {model['round']} of {model['run'] or show.short(model['run_id'])}, on {told['data']}"]
    if "metrics" in told:
        lines.append(show.facts([(key, show.figure(value)) for key, value in told["metrics"].items()] or [("", "")]))
        lines.append(f"over {told['samples']} {rows}")
    if "path" in told:
        lines.append(f"{told['predicted']} predictions: {told['path']}")
    return "\n".join(lines)
