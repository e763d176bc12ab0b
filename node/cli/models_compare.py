"""fednode model compare: models side by side, what their runs were given, what came of them, and how far apart they
are."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, store_option

if TYPE_CHECKING:
    from fednode_client import Client
    from node.cli.record_client import RecordClient

MODELS_MAX = 26  # a letter for each
METRICS_MAX = 10_000  # of one round: a run has a few, and by class some thousand
TENSORS_SHOWN_MAX = 40  # for people; --json has all

Json = dict[str, Any]


@click.command()
@click.argument("names", metavar="MODEL MODEL …", nargs=-1, required=True)
@click.option("--no-tensors", is_flag=True, help="Do not read the models themselves, which large ones take long for.")
@store_option
@common_options
@click.pass_obj
def compare(answer: Answer, names: tuple[str, ...], no_tensors: bool) -> None:
    """Put models side by side: lineage, parameters that differ, metrics of their rounds, how far apart they are.

    The first is what the others are measured against. With --store the models themselves are not read."""
    if not 2 <= len(names) <= MODELS_MAX:
        raise click.UsageError(f"name from 2 to {MODELS_MAX} models")
    asked = answer.record()
    models = [asked.model_info(name) for name in names]
    metrics = [_metrics(asked, model) for model in models]
    parameters = _parameters(asked, models)
    apart = [] if no_tensors or answer.store else _apart(answer.client(), models)
    if answer.json:
        answer.give({"models": models, "parameters": parameters, "metrics": metrics, "differences": apart}, "")
        return
    _print(names, models, parameters, metrics, apart)


def _metrics(asked: "Client | RecordClient", model: Json) -> dict[str, float]:
    """The means of the model's round over the nodes' held-out data."""
    round_number = model["round"]
    found = asked.metrics(model["run_id"], scope="global", after_round=round_number - 1, limit=METRICS_MAX)["metrics"]
    return {
        point["key"] if point["class"] is None else f"{point['key']}[{point['class']}]": point["value"]
        for point in found
        if not point["node_id"] and point["round"] == round_number
    }


def _parameters(asked: "Client | RecordClient", models: Sequence[Json]) -> dict[str, list[Any]]:
    """Keys of the runs' configurations whose values differ, each with the value of every model's run."""
    from node.cli.compare import differing_parameters

    runs = list({model["run_id"]: model for model in models}.values())
    if len(runs) < 2:
        return {}
    differing = differing_parameters(asked, runs)
    place = {model["run_id"]: number for number, model in enumerate(runs)}
    return {key: [values[place[model["run_id"]]] for model in models] for key, values in differing.items()}


def _apart(client: "Client", models: Sequence[Json]) -> list[Json]:
    """How far each model is from the first; `tensors` None where they have other tensors, or one is not here."""
    from node.record.model_difference import differences, whole

    told: list[Json] = []
    for model in models[1:]:
        tensors = None
        if model["here"] and models[0]["here"]:
            # By run and round: what a name stands for may change meanwhile.
            spelt = [f"{each['run_id']}:{each['round']}" for each in (models[0], model)]
            with closing(client.model_file(spelt[0])) as first, closing(client.model_file(spelt[1])) as second:
                tensors = differences(first, second)
        told.append({"model": model["model"], "norm": None if tensors is None else whole(tensors), "tensors": tensors})
    return told


def _print(
    names: Sequence[str],
    models: Sequence[Json],
    parameters: dict[str, list[Any]],
    metrics: Sequence[dict[str, float]],
    apart: Sequence[Json],
) -> None:
    heads = [f"{chr(ord('A') + place)} {name}" for place, name in enumerate(names)]
    facts: dict[str, list[object]] = {
        "run": [model["run"] or show.short(model["run_id"]) for model in models],
        "round": [model["round"] for model in models],
        "registered as": [
            ", ".join(f"{each['name']}:{each['version']}" for each in model["names"]) for model in models
        ],
        "size": [show.size(model["bytes"]) for model in models],
        "made": [show.moment(model["time"]) for model in models],
        "model": [show.short(model["model"]) for model in models],
        "parent run": [show.short(model["lineage"]["parent"]) for model in models],
        "task": [model["lineage"]["task"] for model in models],
        "task hash": [show.short(model["lineage"]["task_hash"]) for model in models],
        "data": [_data(model) for model in models],
    }
    show.table(["", *heads], [[key, *values] for key, values in facts.items() if any(values)])
    if parameters:
        click.echo("\nParameters that differ")
        show.table(["PARAMETER", *heads], [[key, *map(_shown, values)] for key, values in parameters.items()])
    keys = sorted({key for each in metrics for key in each})
    if keys:
        click.echo("\nMeasured after their rounds, over the held-out data of the nodes that were there")
        rows: list[list[object]] = [[key, *(show.figure(each.get(key)) for each in metrics)] for key in keys]
        show.table(["", *heads], [*rows, ["nodes", *(model["measured_by"] for model in models)]])
    for place, each in enumerate(apart, 1):
        click.echo(f"\n{heads[place]} against {heads[0]}")
        _print_apart(each)


def _print_apart(each: Json) -> None:
    tensors = each["tensors"]
    if tensors is None:
        click.echo("Not compared tensor by tensor: they have other tensors, or one of them is not here any more.")
        return
    click.echo(f"Norm of the difference: {show.figure(each['norm'])}")
    rows = [
        [tensor["name"], "×".join(map(str, tensor["shape"])), *map(show.figure, _figures(tensor))]
        for tensor in sorted(tensors, key=lambda tensor: -tensor["norm"])[:TENSORS_SHOWN_MAX]
    ]
    show.table(["TENSOR", "SHAPE", "NORM", "RELATIVE", "LARGEST"], rows)
    if len(tensors) > len(rows):
        click.echo(f"and {len(tensors) - len(rows)} more, less far apart; --json has all")


def _figures(tensor: Json) -> list[float | None]:
    return [tensor["norm"], tensor["relative"], tensor["largest"]]


def _data(model: Json) -> str:
    """The fingerprints of what the run was trained on."""
    return ", ".join(sorted({show.short(each["data_fingerprint"]) for each in model["lineage"]["data"]} - {""}))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return show.figure(value)
    return "–" if value is None else str(value)
