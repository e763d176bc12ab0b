"""A task of a member's own for the tests with real processes: the mean of the node's digits, learned round by round.

It needs no torch, so its worker is up in a moment. Parameter `pause_s`: how long training takes at least;
`until`, the path of a file: from round 3 on, training takes until it is there. Option `breaks` of a data set: the round
in which training fails there.
"""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fednode

TICK_S = 0.02
HELD_FROM_ROUND = 3
PIXELS = 64

Model = dict[str, npt.NDArray[np.float32]]


class Mean(fednode.Task):
    def model(self) -> Model:
        return {"mean": np.zeros(PIXELS, np.float32)}

    def data(self, source: fednode.Source) -> fednode.Data:
        self.breaks = source.options.get("breaks")
        with np.load(source.path) as arrays:
            return fednode.Data.split((arrays["x"].reshape(-1, PIXELS).astype(np.float32),))

    def train(self, model: Model, data: fednode.Data, this_round: fednode.Round) -> fednode.Result:
        self._take_time(float(self.parameters.get("pause_s", 0)))
        if this_round.number >= HELD_FROM_ROUND and "until" in self.parameters:
            while not Path(str(self.parameters["until"])).exists():
                self._take_time(TICK_S)
        if this_round.number == self.breaks:
            print("about to break")
            raise ZeroDivisionError("broken on purpose")
        target = data.train[0].mean(axis=0)
        model["mean"] += np.float32(0.5) * (target - model["mean"])
        return fednode.Result(len(data.train[0]), {"distance": float(np.abs(target - model["mean"]).max())}, 1)

    def _take_time(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            fednode.log({"left": left})  # ends training when nobody waits for it any more
            threading.Event().wait(min(TICK_S, left))

    def evaluate(self, model: Model, data: fednode.Data) -> fednode.Result:
        assert data.evaluation is not None
        held_out = data.evaluation[0]
        return fednode.Result(len(held_out), {"loss": float(((held_out - model["mean"]) ** 2).mean())})

    def arrays(self, model: Model) -> Model:
        return model

    def load(self, model: Model, arrays: Mapping[str, npt.NDArray[np.float32]]) -> Model:
        return {name: array.copy() for name, array in arrays.items()}
