"""Predictions of a data set, batch by batch, and their files."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

from fednode import EVALUATION_BATCH_ROWS, Batch, Data, Interrupted, Source, Task, TaskError, holding_out
from fednode_client import ClientError
from node.cli.predict_files import COLUMNS_MAX, write_as
from node.tasks.tabular import Tabular
from node.training.predictions import ARRAYS_MAX, write_predictions
from node.training.sgd import Progress

ROWS = EVALUATION_BATCH_ROWS * 2 + 7


class Doubling(Task):
    """Whose model doubles; `answer` may make something else of it."""

    answer: Callable[[Any], Any] | None = None

    def model(self) -> torch.nn.Module:
        layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(layer.weight, 2.0)
        return layer

    def data(self, source: Source) -> Data:
        raise NotImplementedError

    def predict(self, model: Any, batch: Batch) -> Any:
        given = super().predict(model, batch)
        return given if self.answer is None else self.answer(given)


def predicted(tmp_path: Path, columns: Batch, answer: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    task = Doubling({})
    task.answer = answer  # type: ignore[method-assign]
    target = tmp_path / "predictions.npz"
    rows = write_predictions(task, task.model(), columns, target, Progress())
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]
    with np.load(target, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    assert {len(array) for array in found.values()} == {rows}
    return found


def inputs(rows: int = ROWS) -> torch.Tensor:
    return torch.arange(rows, dtype=torch.float32).reshape(-1, 1)


# --- the task's answers ----------------------------------------------------------------------------------------
def test_the_last_column_is_the_label(tmp_path: Path) -> None:
    found = predicted(tmp_path, (inputs(), torch.zeros(ROWS)))
    np.testing.assert_array_equal(found["prediction"][:, 0], 2 * np.arange(ROWS))


def test_a_lone_column_is_the_input(tmp_path: Path) -> None:
    assert len(predicted(tmp_path, (inputs(3),))["prediction"]) == 3


def test_several_arrays_by_name(tmp_path: Path) -> None:
    found = predicted(
        tmp_path,
        (inputs(),),
        lambda given: {
            "value": given[:, 0].bfloat16(),
            "kind": np.array(["even"] * len(given)),
            "sure": given[:, 0] > 9,
        },
    )
    assert (found["value"].dtype, found["kind"][-1], found["sure"].sum()) == (np.float32, "even", ROWS - 5)


def lengthening(given: Any) -> Any:
    return np.array([f"{float(value):.0f}" for value in given])


BAD_ANSWERS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda given: given[:-1], "for a batch of"),
    (lambda given: None, "gave object"),
    (lambda given: 3.0, "gave float64"),
    (lambda given: [object()] * len(given), "gave object"),
    (lambda given: {}, "gave 0 arrays"),
    (lambda given: {f"a{number}": given for number in range(ARRAYS_MAX + 1)}, f"gave {ARRAYS_MAX + 1} arrays"),
    (lambda given: {"../x": given}, "calls an array '../x'"),
    (lambda given: {"": given}, "calls an array ''"),
    (lambda given: given if len(given) == EVALUATION_BATCH_ROWS else given.reshape(-1), "and float32.1. before"),
    (lambda given: given if len(given) == EVALUATION_BATCH_ROWS else given.double(), "and float32.1. before"),
    (lambda given: {"a" if len(given) == EVALUATION_BATCH_ROWS else "b": given}, "gave b from row"),
    (lengthening, "and <U4"),  # or texts would be cut off without a word
]


@pytest.mark.parametrize(("answer", "why"), BAD_ANSWERS)
def test_answers_that_do_not_fit(tmp_path: Path, answer: Callable[[Any], Any], why: str) -> None:
    columns = (inputs() * (3 if answer is lengthening else 1),)
    with pytest.raises(TaskError, match=why):
        predicted(tmp_path, columns, answer)
    assert not list(tmp_path.iterdir())


def test_without_rows_there_is_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no rows"):
        predicted(tmp_path, (inputs(0),))


def test_a_model_that_is_no_module_needs_a_predict_of_its_own() -> None:
    with pytest.raises(TaskError, match="no predict"):
        Task.predict(Doubling({}), object(), (1,))


def test_it_stops_when_nobody_waits(tmp_path: Path) -> None:
    progress = Progress(call=1, aborted=1)
    with pytest.raises(Interrupted):
        write_predictions(Doubling({}), Doubling({}).model(), (inputs(),), tmp_path / "x.npz", progress)
    assert not list(tmp_path.iterdir())


def test_all_rows_are_held_out_in_their_order() -> None:
    columns = (np.arange(10), np.arange(10) * 2)
    with holding_out(everything=True):
        data = Data.split(columns, 0.2)
    assert data.evaluation is not None
    np.testing.assert_array_equal(data.evaluation[0], columns[0])
    with holding_out(everything=False):
        assert len(Data.split(columns, 0.2).train[0]) == 8
    assert len(Data.split(columns, 0.2).train[0]) == 8


def test_tables_are_told_by_their_labels() -> None:
    task = Tabular({"columns": ["a"], "label": "b", "classes": ["no", "yes"], "standardise": "none"})
    model = task.model()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model[0].bias.zero_()
    given: Mapping[str, Any] = task.predict(model, (torch.tensor([[-3.0], [3.0]]), torch.zeros(2)))
    assert given["label"].tolist() == ["no", "yes"]


# --- files -----------------------------------------------------------------------------------------------------
ARRAYS: dict[str, Any] = {
    "label": np.array(["plain", 'a "quoted", one', "ünï\ncode"]),
    "number": np.array([1, 2, 3], np.int64),
    "score": np.array([[0.5, np.nan], [1e-30, np.inf], [2.0, -3.0]], np.float32),
    "raw": np.array([b"ab", b"c", b"d"]),
}


def written(tmp_path: Path, suffix: str, arrays: Mapping[str, Any]) -> Path:
    np.savez(tmp_path / "given.npz", **arrays)
    write_as(tmp_path / "given.npz", tmp_path / f"it's{suffix}")
    return tmp_path / f"it's{suffix}"


def test_csv(tmp_path: Path) -> None:
    with written(tmp_path, ".csv", ARRAYS).open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["label", "number", "score_0", "score_1", "raw"]
    assert [row[0] for row in rows] == ARRAYS["label"].tolist()
    assert [np.float32(row[2]) for row in rows] == ARRAYS["score"][:, 0].tolist()
    assert rows[0][4] == "ab"


def test_json(tmp_path: Path) -> None:
    rows = json.loads(written(tmp_path, ".json", ARRAYS | {"z": np.array([1j, 2, 3])}).read_text())
    assert rows[0] == {"label": "plain", "number": 1, "score": [0.5, None], "raw": "ab", "z": [0.0, 1.0]}
    assert len(rows) == 3


def test_parquet(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", ARRAYS)
    rows = duckdb.read_parquet(str(path)).fetchall()
    assert [row[:2] for row in rows] == list(zip(ARRAYS["label"].tolist(), [1, 2, 3], strict=True))
    assert rows[2][2:4] == (2.0, -3.0)


@pytest.mark.parametrize(
    "arrays",
    [
        {"cube": np.zeros((2, 2, 2))},
        {"wide": np.zeros((1, COLUMNS_MAX + 1))},
        {"x": np.zeros((2, 2)), "x_1": np.zeros(2)},
        {"z": np.zeros(2, complex)},
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_fits_no_table(tmp_path: Path, arrays: Mapping[str, Any], suffix: str) -> None:
    with pytest.raises(ClientError) as refused:
        written(tmp_path, suffix, arrays)
    assert ".npz" in refused.value.remedy
