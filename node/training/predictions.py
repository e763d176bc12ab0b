"""Predictions of a whole data set, batch by batch, into an .npz file. Runs in workers alone.

Decides that each array that the task's `predict` gives lies in the file under its name ("prediction" for one without),
a row for each row of data, in the order of the data; and that nothing in it needs pickle to be read.
"""

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fednode import EVALUATION_BATCH_ROWS, Batch, Task, TaskError
from node.training.sgd import Progress
from node.training.worker_frames import PREDICTIONS_BYTES_MAX

ARRAYS_MAX = 64  # of one task: a model has a few outputs
NAME_CHARACTERS_MAX = 80
DEFAULT_NAME = "prediction"

Array = npt.NDArray[Any]


def write_predictions(task: Task, model: Any, columns: Batch, target: Path, progress: Progress) -> int:
    """Write what `task` predicts with `model` for all rows of `columns` to `target`. Gives how many rows that are.

    Raises TaskError when there are no rows, or what the task gives is no arrays of one kind, a row for each of data.
    """
    rows = len(columns[0])
    if not rows:
        raise TaskError("There are no rows to predict from", remedy="name data that has some")
    parts = target.with_suffix(".parts")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(mode=0o700)
    try:
        arrays: dict[str, Array] = {}
        for number, start in enumerate(range(0, rows, EVALUATION_BATCH_ROWS), 1):
            progress.at(0, number)
            batch = tuple(column[start : start + EVALUATION_BATCH_ROWS] for column in columns)
            given = _named(task.predict(model, batch), len(batch[0]))
            arrays = arrays or _made(parts, given, rows)
            for name, array in _matching(arrays, given, start):
                arrays[name][start : start + len(array)] = array
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]  # they are memory maps
        _pack(parts, list(arrays), target)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return rows


def _named(given: Any, rows: int) -> dict[str, Array]:
    """What the task gave for a batch of `rows` rows, as arrays by name."""
    by_name = given if isinstance(given, Mapping) else {DEFAULT_NAME: given}
    if not 1 <= len(by_name) <= ARRAYS_MAX:
        raise TaskError(f"The task's predict() gave {len(by_name)} arrays", remedy=f"give from 1 to {ARRAYS_MAX}")
    return {_checked_name(name): _array(name, value, rows) for name, value in by_name.items()}


def _checked_name(name: Any) -> str:
    text = str(name)
    if not text.isidentifier() or len(text) > NAME_CHARACTERS_MAX:  # it becomes a file's name and a table's column
        raise TaskError(
            f"The task's predict() calls an array {text[:NAME_CHARACTERS_MAX]!r}",
            remedy=f"use letters, digits and underscores, at most {NAME_CHARACTERS_MAX}",
        )
    return text


def _array(name: str, value: Any, rows: int) -> Array:
    if hasattr(value, "detach"):  # a tensor of torch's
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biufcSU" or array.ndim < 1 or len(array) != rows:
        raise TaskError(
            f"The task's predict() gave {array.dtype}{list(array.shape)} as {name!r} for a batch of {rows} rows",
            remedy="give an array, or a mapping of names to arrays, of numbers or fixed texts, with an entry for each",
        )
    return array


def _made(folder: Path, first: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Empty arrays in files, of the kinds of the first batch's."""
    size = sum(rows * array[0].nbytes for array in first.values())
    if size > PREDICTIONS_BYTES_MAX:
        raise TaskError(
            f"The predictions would take {size:,} bytes, the limit is {PREDICTIONS_BYTES_MAX:,}",
            remedy="predict from less data at once, or have the task's predict() give less",
        )
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(rows, *array.shape[1:])
        )
        for name, array in first.items()
    }


def _matching(arrays: Mapping[str, Array], given: Mapping[str, Array], start: int) -> Iterator[tuple[str, Array]]:
    """Each array of a batch. Raises TaskError for one that is of another kind than the first batch's."""
    if arrays.keys() != given.keys():
        raise TaskError(
            f"The task's predict() gave {', '.join(given)} from row {start + 1} on, and {', '.join(arrays)} before",
            remedy="give the same arrays for every batch",
        )
    for name, array in given.items():
        whole = arrays[name]
        if array.shape[1:] != whole.shape[1:] or not np.can_cast(array.dtype, whole.dtype, "safe"):
            raise TaskError(
                f"The task's predict() gave {array.dtype}{list(array.shape[1:])} as {name!r} from row {start + 1} on, "
                f"and {whole.dtype}{list(whole.shape[1:])} before",
                remedy="give arrays of one dtype and shape for every batch; texts of a fixed length",
            )
        yield name, array


def _pack(folder: Path, names: list[str], target: Path) -> None:
    """Put the arrays' files into one, uncompressed: scores hardly shrink, and it costs no time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(folder / f"{name}.npy", f"{name}.npy")
