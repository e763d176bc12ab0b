"""Handwritten digits of 8 by 8 pixels: a multi-layer perceptron that tells which of the ten it is.

The data is an .npz file with `x`, (n, 64) or (n, 8, 8) and values from 0 to 16, and `y`, (n,) with digits from 0 to 9,
as in scikit-learn's load_digits. Parameters: `hidden`, the hidden layers' sizes (default [256, 128]), and
`evaluation_share`, the part held out for evaluation (default 0.2), which an option of the data set overrides.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from fednode import Batch, Data, Source, Task, TaskError

PIXELS = 64
CLASSES = 10
BRIGHTEST = 16.0  # the data's scale, a constant: taken from the data it would differ between nodes
HIDDEN = (256, 128)


class Digits(Task):
    """64 pixels in, ten classes out."""

    def model(self) -> nn.Module:
        sizes = [PIXELS, *(int(size) for size in self.parameters.get("hidden", HIDDEN)), CLASSES]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def data(self, source: Source) -> Data:
        x, y = _read(source)
        share = source.options.get("evaluation_share", self.parameters.get("evaluation_share", 0.2))
        pixels = torch.from_numpy(x.reshape(len(x), PIXELS).astype(np.float32) / np.float32(BRIGHTEST))
        return Data.split((pixels, torch.from_numpy(y.astype(np.int64))), share)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, float]:
        x, y = batch
        return {"accuracy": float((model(x).argmax(1) == y).float().mean())}

    def predict(self, model: nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        scores = super().predict(model, batch)
        return {"digit": scores.argmax(1), "probability": scores.softmax(1)}


def _read(source: Source) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """x and y as the file has them. Raises TaskError when they are not digits."""
    try:
        with np.load(source.path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, BadZipFile) as error:  # TypeError: a lone .npy array is no archive
        raise TaskError(
            f"{source.path} cannot be read as an .npz file ({error})", remedy="write one with numpy.savez(x=…, y=…)"
        ) from error
    if source.is_unlabelled and "x" in found:
        found["y"] = np.zeros(len(found["x"]), np.int64)
    missing = sorted({"x", "y"} - set(found))
    if missing:
        raise TaskError(
            f"{source.path} has no array {' and no array '.join(missing)}; it has {', '.join(sorted(found)) or 'none'}",
            remedy="write the pixels as x and the digits as y",
        )
    x, y = found["x"], found["y"]
    if y.ndim != 1 or x.shape not in {(len(y), PIXELS), (len(y), 8, 8)} or {x.dtype.kind, y.dtype.kind} - set("iuf"):
        raise TaskError(
            f"{source.path} has x of {x.dtype}{x.shape} and y of {y.dtype}{y.shape}",
            remedy=f"make x numbers of shape (n, {PIXELS}) or (n, 8, 8), and y (n,)",
        )
    if len(y) and (y.min() < 0 or y.max() >= CLASSES):
        raise TaskError(f"{source.path} has digits from {y.min()} to {y.max()} in y", remedy="use 0 to 9")
    return x, y
