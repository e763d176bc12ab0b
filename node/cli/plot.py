"""fednode run plot: a run's curves in the terminal, or as a picture for a paper."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.common import Answer, common_options, store_option
from node.cli.look import ROWS_MAX, Json, need_metric
from protocol.errors import Refused

if TYPE_CHECKING:
    from node.cli.look import Asked
    from node.exports.plots import Series

ROWS_PLOTTED_MAX = 18  # of a terminal; more shows nothing more
ROWS_KEPT = 4  # for the title, the prompt and a line beyond
WIDTH_MAX = 160  # beyond it the eye does not follow a curve


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--metric", default="accuracy", show_default=True, help="What is drawn; of one class: accuracy[3].")
@click.option(
    "--x",
    "across",
    type=click.Choice(["round", "time", "step"]),
    default="round",
    show_default=True,
    help="Against what: the round, the time since the run began, or the step of a node's own training.",
)
@click.option("--node", "nodes", multiple=True, help="Only this node; may be given again.")
@click.option(
    "--scope",
    type=click.Choice(["global", "local"]),
    help="global: the round's checkpoint; local: a node's own model while it trains. [default: global, if measured]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw into this file, .svg or .png."
)
@store_option
@common_options
@click.pass_obj
def plot(
    answer: Answer, run_name: str, metric: str, across: str, nodes: tuple[str, ...], scope: str | None,
    output: Path | None,
) -> None:  # fmt: skip
    """Draw one measurement of RUN: each node's curve, and the mean over them, weighted by samples."""
    kind = picture_kind(output) if output else ""
    asked = answer.record()
    run = asked.run(run_name)
    curves = run_curves(asked, run, metric, across, scope, nodes)
    if output:
        write_picture(output, kind, curves)
        answer.give({"file": str(output), "bytes": output.stat().st_size}, f"{output} is written.")
        return
    if answer.json:
        answer.give(
            {
                "run_id": run["run_id"], "metric": metric, "x": across, "unit": curves.x_name, "scope": curves.scope,
                "series": [{"name": one.name, "points": list(one.points)} for one in curves.series],
                "not_finite": curves.left_out,
            },
            "",
        )  # fmt: skip
        return
    width, height = terminal_size()
    for line in curves.lines(width, height):
        click.echo(line)
    if curves.left_out:
        answer.hint(f"{curves.left_out} values were not finite and are not drawn.")


class Curves:
    """One measurement of one run, ready to be drawn."""

    def __init__(self, title: str, x_name: str, scope: str, series: "Sequence[Series]", left_out: int) -> None:
        self.title, self.x_name, self.scope, self.series, self.left_out = title, x_name, scope, series, left_out

    @property
    def whole(self) -> bool:
        return self.x_name in ("round", "step")

    def lines(self, width: int, height: int) -> list[str]:
        from node.exports.plots_terminal import draw

        return draw(
            self.series, title=self.title, x_name=self.x_name, width=width, height=height, colour=coloured(),
            whole=self.whole,
        )  # fmt: skip


def run_curves(
    asked: "Asked", run: Json, metric: str, across: str = "round", scope: str | None = None, nodes: Sequence[str] = ()
) -> Curves:
    """The curves of a measurement: the mean and every node, or only `nodes`, which are named, by id or its beginning.

    Raises:
        Refused: the run has no such measurement, or the node none; what there is is named.
    """
    wanted_scope = scope or ("local" if across == "step" else "global")
    if scope is None and wanted_scope == "global":
        wanted_scope = _measured_scope(asked, run, metric)
    need_metric(asked, run, metric, wanted_scope)
    points = asked.metrics(run["run_id"], key=metric.partition("[")[0], scope=wanted_scope, limit=ROWS_MAX)["metrics"]
    return curves_of(points, run, metric, across, wanted_scope, nodes)


def _measured_scope(asked: "Asked", run: Json, metric: str) -> str:
    from node.cli.look import metric_keys

    scopes = {scope for key, scope, _ in metric_keys(asked, run["run_id"]) if key == metric}
    return "local" if scopes == {"local"} else "global"


def curves_of(
    points: Sequence[Json], run: Json, metric: str, across: str, scope: str, nodes: Sequence[str] = ()
) -> Curves:
    """The same out of measurements at hand, of which those of other classes and splits are left out."""
    from node.exports.plots import VALUE_MAX, Series, plain

    points = [point for point in points if label_of(point) == metric]
    splits = {point["split"] for point in points}
    split = "eval" if "eval" in splits else next(iter(splits), "eval")
    points = [point for point in points if point["split"] == split]
    finite = [p for p in points if p["value"] is not None and abs(p["value"]) <= VALUE_MAX]
    by_node: dict[str, list[Json]] = {}
    for point in finite:
        by_node.setdefault(point["node_id"], []).append(point)
    names = {each["node_id"]: each["name"] for each in run["participants"]}
    unit, x_name = _time_unit(finite) if across == "time" else (1.0, across)
    start = _start(run, finite) if across == "time" else 0.0
    series = [
        Series(plain(names.get(node) or node[-8:]), _line(by_node[node], across, start, unit), False, place)
        for place, node in enumerate(_chosen_nodes(by_node, names, nodes))
    ]
    if not nodes and "" in by_node and across != "step":
        series.insert(0, Series("mean", _line(by_node[""], across, start, unit), True, 0))
    if across == "step" and not any(one.points for one in series):
        raise Refused(
            "no-steps", f"{metric} is measured once a round here, not at every step", remedy="ask for --x round or time"
        )
    return Curves(_title(run, metric, scope, split), x_name, scope, series, len(points) - len(finite))


def label_of(point: Json) -> str:
    return str(point["key"]) if point["class"] is None else f"{point['key']}[{point['class']}]"


def _title(run: Json, metric: str, scope: str, split: str) -> str:
    from node.exports.plots import plain

    whose = "of the shared model" if scope == "global" else "of the nodes' own models"
    return plain(f"{run['name']}: {metric} {whose}, {'held-out' if split == 'eval' else 'training'} data")


def _chosen_nodes(by_node: Mapping[str, Any], names: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    """Node ids in the order of their names; those that `wanted` names, where it does."""
    present = sorted((node for node in by_node if node), key=lambda node: (names.get(node, ""), node))
    if not wanted:
        return present
    chosen: list[str] = []
    for name in wanted:
        found = [node for node in present if name in (node, names.get(node))]
        found = found or [node for node in present if node.startswith(name)]
        if len(found) != 1:
            known = ", ".join(names.get(node) or node for node in present[:20]) or "nobody"
            what = "There are several nodes" if found else "No node that measured this is"
            raise Refused("no-such-node", f"{what} called {name!r}", remedy=f"name one of {known}, or its id")
        chosen += found
    return list(dict.fromkeys(chosen))


def _line(points: Sequence[Json], across: str, start: float, unit: float) -> list[tuple[float, float]]:
    if across == "step":
        return _by_step(points)
    rounds: dict[int, Json] = {}
    for point in points:
        # What a node signed for the whole round (epoch 0, step 0) stands for it; else the last that it said in it.
        old = rounds.get(point["round"])
        if old is None or _weight(point) >= _weight(old):
            rounds[point["round"]] = point
    if across == "round":
        return [(number, point["value"]) for number, point in sorted(rounds.items())]
    return sorted(((_seconds(point["time"]) - start) / unit, point["value"]) for point in rounds.values())


def _weight(point: Json) -> tuple[bool, int, int]:
    return (point["epoch"], point["step"]) == (0, 0), point["epoch"], point["step"]


def _by_step(points: Sequence[Json]) -> list[tuple[float, float]]:
    """Steps are counted from the run's beginning: each round's follow those of the rounds before."""
    steps = sorted((p["round"], p["epoch"], p["step"], p["value"]) for p in points if p["step"] > 0)
    longest: dict[int, int] = {}
    for round_number, _, step, _ in steps:
        longest[round_number] = max(longest.get(round_number, 0), step)
    before, total = dict[int, int](), 0
    for round_number in sorted(longest):
        before[round_number] = total
        total += longest[round_number]
    return [(before[round_number] + step, value) for round_number, _, step, value in steps]


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _start(run: Json, points: Sequence[Json]) -> float:
    times = [_seconds(point["time"]) for point in points]
    return min([*times, *([_seconds(run["started_at"])] if run["started_at"] else [])], default=0.0)


def _time_unit(points: Sequence[Json]) -> tuple[float, str]:
    from node.exports.plots import time_unit

    times = [_seconds(point["time"]) for point in points] or [0.0]
    seconds, name = time_unit(max(times) - min(times))
    return seconds, f"time, {name}"


# --- where it goes ----------------------------------------------------------------------------------------------------
def terminal_size() -> tuple[int, int]:
    """Columns and rows for one chart."""
    size = shutil.get_terminal_size()
    return min(size.columns, WIDTH_MAX), max(min(size.lines - ROWS_KEPT, ROWS_PLOTTED_MAX), 6)


def coloured() -> bool:
    """Whether the terminal shows colours and its user wants them (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def picture_kind(output: Path) -> str:
    kind = output.suffix.lower()
    if kind not in (".svg", ".png"):
        raise click.UsageError(f"{output} is neither .svg nor .png")
    return kind


def write_picture(output: Path, kind: str, curves: Curves) -> None:
    from node.exports.plots import chart

    drawing = chart(curves.series, title=curves.title, x_name=curves.x_name, whole=curves.whole)
    if kind == ".svg":
        from node.exports.plots_svg import svg

        write_file(output, svg(drawing).encode())
    else:
        from node.exports.plots_png import png

        write_file(output, png(drawing))


def write_file(output: Path, content: bytes) -> None:
    """Put `content` into the file. Raises Refused with what the disk said."""
    try:
        output.write_bytes(content)
    except OSError as error:
        raise Refused(
            "not-written", f"{output} cannot be written: {error.strerror}", remedy="name another file, or make room"
        ) from None
