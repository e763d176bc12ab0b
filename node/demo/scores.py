"""What the demo compares with: the same training without each other, and with all the data in one place.

A program of its own, so that the demo's process never loads torch and nothing of this runs in a node. It deals out the
digits, then trains one model on each node's share alone and one on all shares together, with the very code, rows,
starting model, batches and epochs that the nodes have; and it measures these and the run's checkpoints on the same
held-out digits, which nobody trains on.

Lines of JSON go out on standard output: {"is": "dealt", …}, {"is": "compared", …}, {"is": "scored", …}, {"is":
"missed", …}. Requests to score a checkpoint come in on standard input: {"home", "run", "round"}.
"""

import json
import os
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fednode import Client, ClientError, Data
from node.data.shares import DigitsSplit, digits_split
from node.demo.words import CODEC, SEED, SHARES_ALPHA, TRAINING
from node.lifeline import end_with

GRACE_S = 1.0  # nothing here is worth waiting for
NICENESS = 10  # as the nodes' workers: nodes go first
DIGITS = 10

Request = dict[str, Any] | None  # None: nobody asks any more


def main() -> None:
    """Called as `python -m node.demo.scores FOLDER NODES ROUNDS LIFELINE_FD`."""
    folder, nodes, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(int(sys.argv[4]), GRACE_S)
    os.nice(NICENESS)
    split = digits_split(nodes, SHARES_ALPHA, SEED)
    paths = split.write(folder)
    write_pooled(split, folder / "pooled.npz")
    say(
        {
            "is": "dealt",
            "shares": [digits_of(y) for _, y in split.shares],
            "held_out": digits_of(split.held_out[1]),
            "files": [str(path) for path in paths],
        }
    )
    if rounds:
        Scores(folder, paths).run(rounds, requests())


def digits_of(labels: np.ndarray[Any, Any]) -> list[int]:
    """How many there are of each digit."""
    return np.bincount(labels, minlength=DIGITS).tolist()  # type: ignore[no-any-return]


def write_pooled(split: DigitsSplit, path: Path) -> None:
    """The rows that the nodes train on, in one file: as in the run, less what each holds out for itself."""
    parts = [Data.split(share).train for share in split.shares]
    np.savez(path, x=np.concatenate([x for x, _ in parts]), y=np.concatenate([y for _, y in parts]))


def requests() -> "queue.SimpleQueue[Request]":
    """What comes in on standard input, read by a thread."""
    incoming: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            incoming.put(json.loads(line))
        incoming.put(None)

    threading.Thread(target=read, name="requests", daemon=True).start()
    return incoming


def say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - standard output is what the demo reads


@dataclass(slots=True)
class Learner:
    """Somebody who trains without anybody: a loaded task and the model so far, raw."""

    task: Any
    model: bytes


class Scores:
    """Trains the two comparisons round by round, and answers requests in between."""

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        from aggregation.tensors.schema import Schema

        self._folder = folder
        self._judge = self._loaded("judge", folder / "held-out.npz", evaluation_share=1.0)
        initial = self._judge.initial_model()
        self._schema_bytes, self._schema = initial.schema, Schema.from_bytes(initial.schema)
        pooled = self._loaded("pooled", folder / "pooled.npz", evaluation_share=0.0)
        self._pooled = Learner(pooled, initial.model)
        self._alone = [Learner(self._loaded(path.stem, path), initial.model) for path in paths]

    def run(self, rounds: int, incoming: "queue.SimpleQueue[Request]") -> None:
        """Compare `rounds` rounds, then answer until nobody asks any more."""
        for number in range(1, rounds + 1):
            for learner in [self._pooled, *self._alone]:
                self._train(learner, number)
                while not incoming.empty():
                    if not self._answer(incoming.get()):
                        return
            alone = [self._accuracy(number, learner.model) for learner in self._alone]
            pooled = self._accuracy(number, self._pooled.model)
            say({"is": "compared", "round": number, "alone": float(np.mean(alone)), "pooled": pooled})
        while self._answer(incoming.get()):
            pass

    def _loaded(self, name: str, data: Path, **data_options: float) -> Any:
        from node.seams import TaskSpec
        from node.training.sgd import Progress
        from node.training.training import LoadedTask

        spec = TaskSpec(
            run_id="demo",
            node_id=name,
            task="digits",
            task_parameters={},
            hyperparameters=TRAINING,
            codec=CODEC,
            data_path=str(data),
            data_options=data_options,
            seed=SEED,
        )
        return LoadedTask(spec, self._folder, lambda output: None, Progress())

    def _train(self, learner: Learner, number: int) -> None:
        """One round: the next model is the last one plus the coded difference, as every checkpoint is."""
        from aggregation.checkpoints import apply_difference

        trained = learner.task.train(number, self._schema_bytes, learner.model)
        learner.model = apply_difference(learner.model, self._schema, trained.update, CODEC)

    def _accuracy(self, number: int, model: bytes) -> float:
        return float(self._judge.evaluate(number, self._schema_bytes, model).metrics["accuracy"])

    def _answer(self, request: Request) -> bool:
        """Score the checkpoint that is asked for. False when nobody asks any more."""
        if request is None:
            return False
        from aggregation.tensors.safetensors_file import from_safetensors

        number = request["round"]
        try:
            file = b"".join(Client(request["home"]).model(request["run"], number))
        except ClientError:  # somebody ended that node; another has the checkpoint too
            say({"is": "missed", "round": number})
            return True
        accuracy = self._accuracy(number, from_safetensors(self._schema, file))
        say({"is": "scored", "round": number, "accuracy": accuracy, "model_bytes": len(file)})
        return True


if __name__ == "__main__":
    main()
