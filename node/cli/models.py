"""fednode model: models by name, their registry, and models as files."""

import json
from pathlib import Path
from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, store_option
from node.cli.files import refuse_to_replace, write_file
from node.cli.models_compare import compare

Json = dict[str, Any]


@click.group()
def model() -> None:
    """Get, name, compare trained models.

    \b
    A MODEL is written in one of these ways:
      RUN              the newest model of a run (its name, or the beginning of its id)
      RUN:12           the model of round 12
      NAME             the newest version of a registered name
      NAME@champion    the version that an alias stands for
      NAME:3           version 3
      3fa9c0d1         the beginning of the model's hash, 8 characters or more

    The registry of names is this node's own: nobody else sees it.
    """


model.add_command(compare)


@model.command("list")
@click.argument("of", metavar="[RUN|NAME]", required=False)
@store_option
@common_options
@click.pass_obj
def list_models(answer: Answer, of: str | None) -> None:
    """List the registered models; or the versions of NAME; or the models of RUN, and which of them are still here."""
    found = answer.record().models(of)["models"]
    if answer.json:
        answer.give(found, "")
        return
    head = ["NAME", "VERSION", "ALIASES", "RUN", "ROUND", "ACCURACY", "LOSS", "SIZE", "TIME", "MODEL", ""]
    show.table(head, [_row(entry) for entry in found])
    if not found and of is None:
        answer.hint("None yet. Register one: fednode model tag RUN NAME@champion")


def _row(entry: Json) -> list[object]:
    names = [entry] if entry["name"] else entry["names"]
    return [
        ", ".join(each["name"] for each in names),
        ", ".join(str(each["version"]) for each in names),
        ", ".join(alias for each in names for alias in each["aliases"]),
        entry["run"] or show.short(entry["run_id"]),
        entry["round"],
        show.figure(entry["accuracy"]),
        show.figure(entry["loss"]),
        show.size(entry["bytes"]),
        show.moment(entry["tagged_at"] or entry["time"]),
        show.short(entry["model"]),
        "gone" if entry["here"] is False else "",
    ]


@model.command("show")
@click.argument("name", metavar="MODEL")
@store_option
@common_options
@click.pass_obj
def show_model(answer: Answer, name: str) -> None:
    """Show where MODEL comes from, its names, and what was measured of it on this node."""
    found = answer.record().model_info(name)
    answer.give(found, lambda: _told(found))


def _told(found: Json) -> str:
    lineage = found["lineage"]
    facts = [
        ("model", found["model"]),
        ("names", ", ".join(f"{each['name']}:{each['version']}" for each in found["names"])),
        ("aliases", ", ".join(f"{each['name']}@{alias}" for each in found["names"] for alias in each["aliases"])),
        ("run", f"{found['run']} {show.short(found['run_id'])}"),
        ("round", found["round"]),
        ("checkpoint", found["checkpoint"]),
        ("accuracy", show.figure(found["accuracy"])),
        ("loss", show.figure(found["loss"])),
        ("size", show.size(found["bytes"])),
        ("made", show.moment(found["time"])),
        ("here", {True: "yes", False: "no, its blobs are gone", None: ""}[found["here"]]),
        ("task", " ".join(filter(None, [lineage["task"], show.short(lineage["task_hash"])]))),
        ("parent run", lineage["parent"]),
        ("aggregator", show.node(lineage["aggregator"])),
        *(("in its run", _trainer(each)) for each in lineage["data"]),
    ]
    lines = [show.facts(facts)]
    for each in found["evaluations"]:
        metrics = ", ".join(f"{key} {show.figure(value)}" for key, value in each["metrics"].items())
        rows = f"{each['samples']} {'rows' if each['rows'] == 'all' else each['rows'] + ' rows'}"
        lines.append(f"{show.moment(each['time'])}  {metrics}  on {rows} of {each['data']}")
    return "\n".join(lines)


def _trainer(each: Json) -> str:
    data = f", data {show.short(each['data_fingerprint'])}" if each["data_fingerprint"] else ""
    return f"{each['name'] or show.node(each['node_id'])}, {each['samples']} samples{data}"


@model.command("get")
@click.argument("name", metavar="MODEL")
@click.option("--round", "round_number", type=click.IntRange(0), help="RUN's model of this round: the same as RUN:12.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="[default: MODEL.safetensors]")
@click.option("--schema", "schema_file", type=click.Path(dir_okay=False), help="Write the tensor schema here, as JSON.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@common_options
@click.pass_obj
def get(
    answer: Answer, name: str, round_number: int | None, output: str | None, schema_file: str | None, force: bool
) -> None:
    """Write MODEL to a safetensors file, which holds its schema and says which run and round it comes from."""
    name = name if round_number is None else f"{name}:{round_number}"
    target = Path(output) if output else Path(f"{_file_name(name)}.safetensors")
    targets = [target, *([Path(schema_file)] if schema_file else [])]
    for wanted in targets:
        refuse_to_replace(wanted, force=force)
    client = answer.client()
    size = write_file(target, client.model_file(name), force=force)
    told: Json = {"path": str(target.absolute()), "bytes": size}
    if schema_file:
        schema = json.dumps(client.model_schema(name), indent=1).encode() + b"\n"
        write_file(Path(schema_file), [schema], force=force)
        told["schema"] = str(Path(schema_file).absolute())
    answer.give(told, f"{target}, {show.size(size)}")
    answer.hint(f"Load it: safetensors.torch.load_file({str(target)!r})")


@model.command("tag")
@click.argument("name", metavar="MODEL")
@click.argument("entry", metavar="NAME[@ALIAS]")
@common_options
@click.pass_obj
def tag(answer: Answer, name: str, entry: str) -> None:
    """Register MODEL as the next version of NAME, and let ALIAS stand for it.

    The same model under the same name again stays the version that it is, so this also moves an alias:
    fednode model tag fraud-detector:3 fraud-detector@champion
    """
    registered, _, alias = entry.partition("@")
    if entry.endswith("@"):
        raise click.BadParameter(f"{entry!r} ends without an alias", param_hint="NAME[@ALIAS]")
    made = answer.client().tag_model(name, registered, alias)
    stands = f"; {registered}@{alias} stands for it" if alias else ""
    version = f"{made['name']}:{made['version']}"
    answer.give(made, f"{version} is round {made['round']} of {made['run'] or show.short(made['run_id'])}{stands}")
    answer.hint(f"Its blobs are kept from now on. See: fednode model list {registered}")


@model.command("untag")
@click.argument("entry", metavar="NAME@ALIAS")
@common_options
@click.pass_obj
def untag(answer: Answer, entry: str) -> None:
    """Take an alias away. The version that it stood for stays."""
    registered, at, alias = entry.partition("@")
    if not at or not alias or not registered:
        raise click.BadParameter(f"{entry!r} is not NAME@ALIAS", param_hint="NAME@ALIAS")
    answer.client().untag_model(registered, alias)
    answer.give({"name": registered, "alias": alias}, f"{entry} stands for nothing any more.")


@model.command("remove")
@click.argument("name")
@common_options
@click.pass_obj
def remove(answer: Answer, name: str) -> None:
    """Take NAME out of the registry, with all its versions and aliases. The runs and their models stay."""
    versions = answer.client().remove_model(name)["versions"]
    answer.give(
        {"removed": name, "versions": versions},
        f"{name} is no longer registered ({versions} version{'' if versions == 1 else 's'}). "
        "Its models are kept no longer than other checkpoints.",
    )


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in name).lstrip(".")
