"""Tables of numbers (.csv, .npz, .parquet): logistic regression, or a multi-layer perceptron, over numeric columns.

Parameters:
  label             the column to predict (required, here or as an option of the data)
  columns           the numeric columns to predict it from, in order (required: the model is made without seeing data)
  classes           how many classes, whose labels are then 0, 1 …, or the list of the labels themselves (default 2)
  hidden            sizes of hidden layers (default []: logistic regression)
  standardise       "batch", "given" or "none"; see below
  means, scales     for "given": a number for each column
  missing           what to do with rows that have empty cells: "refuse" (default) or "drop"
  evaluation_share  the part held out for evaluation (default 0.2); an option of the data set overrides it

Columns of very different size train badly, but no node may need another's data to mend that. "given" takes means and
scales that everybody knows beforehand, and gives nothing away. "batch", the default where none are given,
standardises by each batch while training and by running means and variances in evaluation; these are part of the model
and are averaged with it, so the others see an average of this node's column means. "none" leaves the numbers alone.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from fednode import Batch, Data, Source, Task, TaskError
from node.tasks.tables import Column, numbers, read_columns

STANDARDISE = ("batch", "given", "none")


class Tabular(Task):
    """Numeric columns in, one of several classes out."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__(parameters)
        columns = self.parameters.get("columns")
        if not columns or isinstance(columns, str):
            raise TaskError(
                "The task's parameter columns is not a list of names", remedy="name the columns to learn from"
            )
        self.columns = [str(name) for name in columns]
        classes = self.parameters.get("classes", 2)
        self.labels = list(range(classes)) if isinstance(classes, int) else list(classes)
        given = "means" in self.parameters or "scales" in self.parameters
        self.standardise = self.parameters.get("standardise", "given" if given else "batch")
        if self.standardise not in STANDARDISE:
            raise TaskError(f"standardise is {self.standardise!r}", remedy=f"choose one of {', '.join(STANDARDISE)}")

    def model(self) -> nn.Module:
        sizes = [len(self.columns), *(int(size) for size in self.parameters.get("hidden", ())), len(self.labels)]
        layers: list[nn.Module] = [Standardise(len(self.columns))] if self.standardise == "batch" else []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def data(self, source: Source) -> Data:
        label = source.options.get("label", self.parameters.get("label"))
        if not label and not source.is_unlabelled:
            raise TaskError("The task's parameter label is missing", remedy="name the column to predict")
        columns = read_columns(source.path, self.columns if source.is_unlabelled else [*self.columns, label])
        features = np.stack([numbers(source.path, name, columns[name]) for name in self.columns], axis=1)
        if source.is_unlabelled:
            labels = np.zeros(len(features), np.int64)
        else:
            labels = _label_numbers(source, label, columns[label], self.labels)
        whole = np.isfinite(features).all(axis=1) & (labels >= 0)
        if not whole.all():
            self._check_missing(source, int((~whole).sum()), int(np.argmin(whole)))
        features = self._scaled(features[whole]).astype(np.float32)
        share = source.options.get("evaluation_share", self.parameters.get("evaluation_share", 0.2))
        return Data.split((torch.from_numpy(features), torch.from_numpy(labels[whole])), share)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, float]:
        x, y = batch
        return {"accuracy": float((model(x).argmax(1) == y).float().mean())}

    def predict(self, model: nn.Module, batch: Batch) -> Mapping[str, Any]:
        scores = super().predict(model, batch)
        return {"label": np.array(self.labels)[scores.argmax(1).numpy()], "probability": scores.softmax(1)}

    def _scaled(self, features: Column) -> Column:
        if self.standardise != "given":
            return features
        means, scales = self._for_each_column("means", 0.0), self._for_each_column("scales", 1.0)
        if not (scales > 0).all():
            raise TaskError("scales has numbers that are not above 0", remedy="give each column's standard deviation")
        return (features - means) / scales

    def _for_each_column(self, name: str, default: float) -> Column:
        values = self.parameters.get(name, [default] * len(self.columns))
        if len(values) != len(self.columns):
            raise TaskError(
                f"{name} has {len(values)} numbers for {len(self.columns)} columns", remedy="give one for each column"
            )
        return np.asarray(values, dtype=np.float64)

    def _check_missing(self, source: Source, rows: int, first: int) -> None:
        # Who asks for predictions alone lays them beside the rows: none may be left out without a word.
        if source.is_unlabelled or self.parameters.get("missing", "refuse") != "drop":
            raise TaskError(
                f"{source.path} has {rows} rows with empty or infinite cells, the first is row {first + 1}",
                remedy="fill them in, or take them out of the file"
                if source.is_unlabelled
                else 'fill them in, or set missing = "drop" in the task\'s parameters',
            )


class Standardise(nn.Module):
    """Batch normalisation without learned scales, that leaves its statistics alone for a batch of one row, which
    torch's BatchNorm1d refuses (a last batch is often that small)."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, columns: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("variance", torch.ones(columns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.mean, self.variance
        if self.training and len(x) > 1:
            mean, variance = x.mean(0), x.var(0)
            with torch.no_grad():
                self.mean.add_((mean - self.mean) * self.momentum)
                self.variance.add_((variance - self.variance) * self.momentum)
        return (x - mean) / torch.sqrt(variance.clamp(min=0) + self.epsilon)


def _label_numbers(source: Source, name: str, column: Column, labels: Sequence[Any]) -> Column:
    """Each label's place in `labels`; -1 for an empty cell. Labels are compared as text, and 1.0 is 1."""
    places = {_text(label): place for place, label in enumerate(labels)}
    texts = [_text(label) for label in column.tolist()]
    unknown = sorted({text for text in texts if text and text not in places})
    if unknown:
        raise TaskError(
            f"Column {name!r} of {source.path} has labels that are not among the classes: {', '.join(unknown[:10])}",
            remedy=f"set the task's parameter classes; now it means {', '.join(map(_text, labels))}",
        )
    return np.array([places.get(text, -1) for text in texts], dtype=np.int64)


def _text(label: Any) -> str:
    if label is None or (isinstance(label, float) and np.isnan(label)):
        return ""
    text = str(label).strip()
    return text[:-2] if text.endswith(".0") else text
