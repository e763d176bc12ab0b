"""A run as TensorBoard's event files: one folder for each node and one for the mean over them."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from node.exports.source import Source, metric_pages, node_names
from node.exports.system import system_points
from tracker.exports.points import Point, folder_name, points_of, seconds_of
from tracker.exports.tensorboard import EventFiles

MEAN_FOLDER = "mean"
_POINTS_AT_ONCE = 20_000
_ID_CHARACTERS = 8  # of a run's id the first, of a node's the last: node ids all begin alike


def export_tensorboard(source: Source, run_name: str, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Write a run below `folder`, all of it or nothing; gives where, and how much.

    Raises:
        FednodeError: the disk says no.
    """
    view = source.run(run_name)
    names = node_names(source) | {entry["node_id"]: entry["name"] for entry in view["participants"] if entry["name"]}
    place = folder / folder_name(f"{view['name']}-{view['run_id'][:_ID_CHARACTERS]}")
    files = EventFiles(place, seconds_of(view["created_at"]))
    try:
        for page in metric_pages(source, view["run_id"]):
            _add(files, names, points_of(page))
            tell(f"round {page[-1]['round']}, {files.scalars:,} scalars")
        of_machines = (point for _, point in system_points(source, view))
        while some := list(islice(of_machines, _POINTS_AT_ONCE)):
            _add(files, names, some)
            tell(f"machines, {files.scalars:,} scalars")
        written = files.finish()
    finally:
        files.abandon()
    return {
        "run_id": view["run_id"],
        "folder": str(place),
        "scalars": files.scalars,
        "files": [str(path) for path in written],
    }


def _add(files: EventFiles, names: Mapping[str, str], points: Iterable[Point]) -> None:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.node_id, []).append(point)
    for node, some in found.items():
        files.add(folder_name(f"{names.get(node, '')}-{node[-_ID_CHARACTERS:]}") if node else MEAN_FOLDER, some)
